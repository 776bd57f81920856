package btree

import "encoding/binary"

// LeadOf returns the first eight bytes of a key as a number, padded with zeros.
func LeadOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}
