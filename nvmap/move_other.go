//go:build purego || (!amd64 && !(arm64 && linux))

package nvmap

import "unsafe"

func archMovers() []mover { return nil }

// Prefetch asks for 64-byte cache lines, lines of them, beginning at p. In this build it does
// nothing.
func Prefetch(p unsafe.Pointer, lines int) {}

func prefetchAt(base unsafe.Pointer, offs *Off, n, lines int) {}
