//go:build linux && !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// cleanToPersistence reports that the CPU has DC CVAP, which cleans a line to the point of
// persistence. DC CVAC stops at the point of coherency.
var cleanToPersistence = cpu.ARM64.HasDCPOP

func archMovers() []mover {
	m := mover{name: "store+dc cvap", store: storeClean, drain: drainStores}
	if !cleanToPersistence {
		m.name = "store+dc cvac"
		m.note = "this CPU cleans cache lines to the point of coherency only"
	}
	return []mover{m}
}

// storeClean copies n bytes, cleans their lines and waits for completion (DSB) before it returns. A
// barrier on another CPU would not complete the clean, and goroutines move between CPUs.
//
//go:noescape
func storeClean(dst, src unsafe.Pointer, n uintptr, _ pkey)

// drainStores is a DSB. The last storeClean has left it nothing to wait for.
func drainStores()

// Prefetch asks for 64-byte cache lines, lines of them, beginning at p. It never faults, so p may
// be a guess.
//
//go:noescape
func Prefetch(p unsafe.Pointer, lines int)

// prefetchAt is Prefetch for each of n offsets from base.
//
//go:noescape
func prefetchAt(base unsafe.Pointer, offs *Off, n, lines int)
