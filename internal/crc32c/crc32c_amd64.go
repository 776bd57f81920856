//go:build !purego

package crc32c

import "golang.org/x/sys/cpu"

var hardware = cpu.X86.HasSSE42

//go:noescape
func update(crc uint32, a, b []byte) uint32

//go:noescape
func sum4(a, b *[4][]byte, sums *[4]uint32)
