//go:build !amd64 || purego

package crc32c

import "hash/crc32"

// hash/crc32 uses what the CPU has.
const hardware = false

func update(crc uint32, a, b []byte) uint32 {
	return crc32.Update(crc32.Update(crc, table, a), table, b)
}
