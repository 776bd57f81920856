// Package crc32c computes the CRC-32C of short pieces of memory, of two of them in one call.
//
// hash/crc32 is made for long pieces. Its call, the words before the first aligned one and the
// bytes after the last cost as much as the checksum of a record of 150 bytes, and twice as much for
// a header and a body. Measured on a Sapphire Rapids VM with 123 and 16 bytes: hash/crc32 28 ns,
// Sum 13 ns.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// longBytes is the length from which hash/crc32 is faster, because it interleaves three streams.
const longBytes = 512

// Sum returns the CRC-32C of a followed by b.
func Sum(a, b []byte) uint32 { return Update(0, a, b) }

// Update returns the CRC-32C of some bytes followed by a and b, where crc is the CRC-32C of those
// bytes.
func Update(crc uint32, a, b []byte) uint32 {
	if !hardware || len(a) > longBytes || len(b) > longBytes {
		return crc32.Update(crc32.Update(crc, table, a), table, b)
	}
	return update(crc, a, b)
}

// Sum4 computes four checksums at once: sums[i] is Sum(a[i], b[i]). It interleaves the words that
// all of a have, so that the CPU can begin a step of one checksum while it waits for another.
func Sum4(a, b *[4][]byte, sums *[4]uint32) {
	if hardware {
		sum4(a, b, sums)
		return
	}
	for i := range sums {
		sums[i] = Sum(a[i], b[i])
	}
}
