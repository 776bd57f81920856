package nvmap

import "nvkv/internal/racing"

// The detector watches frames and devices in this package's tests.
func init() { racing.Heap = true }
