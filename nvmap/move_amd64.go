//go:build !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// moverNote is what a user should know about this build's stores.
const moverNote = ""

// How storeBytes writes back the lines it did not store past the cache.
const (
	backCLFLUSH    = iota // every amd64 CPU
	backCLFLUSHOPT        // not ordered among themselves
	backCLWB              // and the line stays cached
)

// writeBack is one of the above; the assembly reads it.
var writeBack = detectWriteBack()

func detectWriteBack() uint8 {
	if maxID, _, _, _ := cpuid(0, 0); maxID < 7 {
		return backCLFLUSH
	}
	const clflushopt, clwb = 1 << 23, 1 << 24
	switch _, ebx, _, _ := cpuid(7, 0); {
	case ebx&clwb != 0:
		return backCLWB
	case ebx&clflushopt != 0:
		return backCLFLUSHOPT
	}
	return backCLFLUSH
}

// useAVX says that the body of a store may use 32-byte registers.
var useAVX = cpu.X86.HasAVX

func moverName() string {
	return [...]string{"nt+clflush", "nt+clflushopt", "nt+clwb"}[writeBack]
}

//go:noescape
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// storeBytes copies n bytes with non-temporal stores, and the few at the edges
// that no such store fits with ordinary ones that it writes back.
//
//go:noescape
func storeBytes(dst, src unsafe.Pointer, n uintptr)

// drainStores is SFENCE: it returns when what storeBytes sent on this CPU has
// reached the memory controller.
//
//go:noescape
func drainStores()

// Prefetch asks for lines 64-byte cache lines from p on. It never faults.
//
//go:noescape
func Prefetch(p unsafe.Pointer, lines int)
