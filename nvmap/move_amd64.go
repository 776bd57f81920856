//go:build !purego

package nvmap

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// archMovers puts the non-temporal copy first. Measured on a Sapphire Rapids VM over tmpfs, store
// and fence together, ns:
//
//	bytes                      64   152   256   512  1024  4096
//	nt, anywhere              247   257   250   250   290   440
//	store+clwb, anywhere      324   355   370   415   750  1430
//	nt, one after the other   210   260   230   235   255   400
//	store+clwb, the same      163   197   185   222   430  1230
//	nt, 16 to a fence, each    24    26    30    44
//	store+clwb, the same       28   135    56    93
//
// A store through the cache wins only if one small write follows the last and has a fence of its
// own. In a group it loses badly as soon as two records share a line: the second store waits until
// the write-back of the line ends. So one mover serves all sizes. For the same reason no mover
// mixes both ways: an ordinary store and a CLWB for the last six bytes of a record whose other
// bytes bypassed the cache made 150 bytes cost 1100 ns instead of 258.
//
// Opening and closing a protection key adds 55 to 65 ns to a store.
func archMovers() []mover {
	return []mover{
		{name: "nt", keyed: true, store: storeNonTemporal, drain: drainStores},
		{name: "store+" + writeBackName(), keyed: true, store: storeWriteBack, drain: drainStores},
	}
}

// useAVX makes the movers store full lines from 32-byte registers.
//
//lint:ignore U1000 the assembly reads it
//lint:ignore U1000 the assembly reads it
var useAVX = cpu.X86.HasAVX

// These constants select the instruction with which storeWriteBack writes a line back. The assembly
// uses their values.
const (
	backCLFLUSH    = iota // on every amd64 CPU
	backCLFLUSHOPT        // does not wait for the previous flush
	backCLWB              // may keep the line in the cache
)

var writeBack = detectWriteBack()

func detectWriteBack() uint8 {
	if maxLeaf, _, _, _ := cpuid(0, 0); maxLeaf < 7 {
		return backCLFLUSH
	}
	const clflushopt, clwb = 1 << 23, 1 << 24 // in EBX
	switch _, features, _, _ := cpuid(7, 0); {
	case features&clwb != 0:
		return backCLWB
	case features&clflushopt != 0:
		return backCLFLUSHOPT
	}
	return backCLFLUSH
}

func writeBackName() string {
	return [...]string{"clflush", "clflushopt", "clwb"}[writeBack]
}

//go:noescape
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// storeNonTemporal copies n bytes past the caches, including the odd bytes at the edges
// (MASKMOVDQU).
//
//go:noescape
func storeNonTemporal(dst, src unsafe.Pointer, n uintptr, key pkey)

// storeWriteBack copies n bytes through the caches and writes their lines back.
//
//go:noescape
func storeWriteBack(dst, src unsafe.Pointer, n uintptr, key pkey)

// drainStores is SFENCE. It returns when the bytes that this CPU stored past the caches or wrote
// back have reached the memory controller. Those of another CPU have reached it already, if its
// goroutine has synchronized with this one since: locked instructions drain them too.
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
