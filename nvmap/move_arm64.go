//go:build linux && !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// cleanToPersistence says that the CPU has DC CVAP, which cleans a line to the
// point of persistence; DC CVAC stops at the point of coherency.
var cleanToPersistence = cpu.ARM64.HasDCPOP

func archMovers() []mover {
	m := mover{name: "store+dc cvap", store: storeClean, drain: drainStores}
	if !cleanToPersistence {
		m.name = "store+dc cvac"
		m.note = "this CPU cleans cache lines to the point of coherency only"
	}
	return []mover{m}
}

// storeClean copies n bytes, cleans their lines and waits until that is done
// (DSB) before it returns: a barrier on another CPU would not complete it, and
// goroutines move between CPUs.
//
//go:noescape
func storeClean(dst, src unsafe.Pointer, n uintptr, _ pkey)

// drainStores is a DSB; the last storeClean left it nothing to wait for.
func drainStores()

// Prefetch asks for lines 64-byte cache lines from p on. It never faults, so p
// may be a guess.
//
//go:noescape
func Prefetch(p unsafe.Pointer, lines int)

// prefetchAt is Prefetch for each of n offsets from base.
//
//go:noescape
func prefetchAt(base unsafe.Pointer, offs *Off, n, lines int)
