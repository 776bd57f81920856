//go:build !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// useAVX2 makes loadLines use 32-byte registers, past the caches.
//
//lint:ignore U1000 the assembly reads it
//lint:ignore U1000 the assembly reads it
var useAVX2 = cpu.X86.HasAVX2

// wideLoads describes how loadLines loads.
var wideLoads = map[bool]string{true: "streaming loads of 32 bytes", false: "loads of 16 bytes"}[useAVX2]

// loadLines copies n bytes, a multiple of 64, from src, which is aligned to a cache line, with the
// widest loads of the CPU. It sees earlier stores of this CPU.
//
//go:noescape
func loadLines(dst, src unsafe.Pointer, n uintptr)
