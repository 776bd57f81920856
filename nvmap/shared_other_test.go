//go:build unix && !linux

package nvmap

import "testing"

// sharedMemory returns anonymous memory, because this system has no tmpfs.
func sharedMemory(b *testing.B, n int) []byte { return make([]byte, n) }
