//go:build purego || (!amd64 && !arm64)

package nvmap

import "unsafe"

func moverName() string { return "copy" }

// moverNote is what a user should know about this build's stores.
const moverNote = "this build has no instructions that write cache lines back: a fence keeps stores in order and no more"

// storeBytes copies with ordinary stores; copy moves aligned words whole.
func storeBytes(dst, src unsafe.Pointer, n uintptr) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

func drainStores() { storeBarrier() }

// Prefetch asks for lines 64-byte cache lines from p on; here it does nothing.
func Prefetch(p unsafe.Pointer, lines int) {}
