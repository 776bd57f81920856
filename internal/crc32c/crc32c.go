// Package crc32c computes the CRC-32C of short pieces of memory, in one call for
// two of them.
//
// hash/crc32 is made for long ones: its call, the words before the first
// aligned one and the bytes behind the last cost as much as the checksum of a
// record of 150 bytes, twice where a header is added to a body. Measured on a
// Sapphire Rapids VM, 123 bytes and 16: hash/crc32 28 ns, Sum 13 ns.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// longBytes is where hash/crc32, which interleaves three streams, wins again.
const longBytes = 512

// Sum returns the CRC-32C of a with b behind it.
func Sum(a, b []byte) uint32 { return Update(0, a, b) }

// Update returns the CRC-32C of what crc is that of, with a and then b behind
// it.
func Update(crc uint32, a, b []byte) uint32 {
	if !hardware || len(a) > longBytes || len(b) > longBytes {
		return crc32.Update(crc32.Update(crc, table, a), table, b)
	}
	return update(crc, a, b)
}

// Sum4 is Sum of four pairs at once: sums[i] is that of a[i] with b[i] behind it.
// The words that all of a have take turns in the CPU, which can begin a step of
// another checksum while it waits for one.
func Sum4(a, b *[4][]byte, sums *[4]uint32) {
	if hardware {
		sum4(a, b, sums)
		return
	}
	for i := range sums {
		sums[i] = Sum(a[i], b[i])
	}
}
