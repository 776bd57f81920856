//go:build unix && !linux

package nvmap

import "testing"

// sharedMemory returns anonymous bytes: there is no tmpfs here.
func sharedMemory(b *testing.B, n int) []byte { return make([]byte, n) }
