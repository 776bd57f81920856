//go:build !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// useAVX2 says that lines may be loaded in 32-byte registers, past the caches.
//
//lint:ignore U1000 the assembly reads it
var useAVX2 = cpu.X86.HasAVX2

// wideLoads says how loadLines loads.
var wideLoads = map[bool]string{true: "streaming loads of 32 bytes", false: "loads of 16 bytes"}[useAVX2]

// loadLines copies n bytes, a multiple of 64, from src, which begins at a line,
// with the widest loads there are. It sees what this CPU stored before.
//
//go:noescape
func loadLines(dst, src unsafe.Pointer, n uintptr)
