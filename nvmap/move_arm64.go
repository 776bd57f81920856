//go:build !purego

package nvmap

import "unsafe"

import "golang.org/x/sys/cpu"

// moverNote is what a user should know about this build's stores.
const moverNote = ""

// cleanToPersistence says that the CPU has DC CVAP, which goes further than the
// point of coherency that DC CVAC reaches.
var cleanToPersistence = cpu.ARM64.HasDCPOP

func moverName() string {
	if cleanToPersistence {
		return "store+dc cvap"
	}
	return "store+dc cvac"
}

// storeBytes copies n bytes, cleans their lines and waits for that (DSB): a DMB
// elsewhere would not complete a clean that another CPU began, and goroutines
// move between CPUs.
//
//go:noescape
func storeBytes(dst, src unsafe.Pointer, n uintptr)

// drainStores has nothing left to wait for but what the last DSB did.
//
//go:noescape
func drainStores()

// Prefetch asks for lines 64-byte cache lines from p on. It never faults.
//
//go:noescape
func Prefetch(p unsafe.Pointer, lines int)
