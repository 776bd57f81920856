//go:build !amd64 || purego

package crc32c

import "hash/crc32"

// hardware is false: hash/crc32 uses the instructions that the CPU has.
const hardware = false

func update(crc uint32, a, b []byte) uint32 {
	return crc32.Update(crc32.Update(crc, table, a), table, b)
}

func sum4(a, b *[4][]byte, sums *[4]uint32) {
	for i := range sums {
		sums[i] = update(0, a[i], b[i])
	}
}
