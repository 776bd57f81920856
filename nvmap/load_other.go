//go:build purego || !amd64

package nvmap

import (
	"sync/atomic"
	"unsafe"
)

// wideLoads describes how loadLines loads.
const wideLoads = "loads of 8 bytes"

// loadLines copies n bytes, a multiple of 64, from src, which is aligned to a cache line, in
// aligned words: device memory may allow no other loads.
func loadLines(dst, src unsafe.Pointer, n uintptr) {
	for i := uintptr(0); i < n; i += 8 {
		word := atomic.LoadUint64((*uint64)(unsafe.Add(src, i)))
		*(*[8]byte)(unsafe.Add(dst, i)) = *(*[8]byte)(unsafe.Pointer(&word))
	}
	loadBarrier()
}
