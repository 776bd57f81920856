package record

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// LengthBytes returns the offsets of the bytes that determine how long a record is: lengths, kind
// and flags, and the level and the number of extents of a run list.
func LengthBytes(b []byte) (at []int) {
	for o := recValLen; o < HeaderBytes; o++ {
		at = append(at, o)
	}
	if flags := b[recFlags]; flags&FlagSpill != 0 {
		o := HeaderLen(flags) + 4
		if flags&FlagSpillKey == 0 {
			o += int(binary.LittleEndian.Uint16(b[recKeyLen:]))
		}
		for end := o + ListHeaderBytes - 4; o < end && o < len(b); o++ {
			at = append(at, o)
		}
	}
	return at
}

// WrongByte finds the one wrong byte of a parsed record whose checksum does not match. It returns
// the offset of that byte and the bits to invert in it, or false if more than one byte is wrong. It
// finds no byte that determines the record's length (see LengthBytes). The record's bytes begin b.
//
// The checksum is linear: the difference between the stored and the computed sum depends only on
// the wrong bits. So the difference can be computed backwards over the bytes. At the wrong byte it
// is a single entry of the CRC table.
func (r *Record) WrongByte(b []byte, seed uint64, carve uint32, off nvmap.Off) (at int, wrong byte, ok bool) {
	h := HeaderLen(r.Flags)
	sum := Sum(seed, BodySum(b[h:r.Size]), b[:h], carve, off)
	diff := sum ^ binary.LittleEndian.Uint32(b)
	for at := range recNumber { // the wrong byte may be in the checksum itself
		if x := diff >> (8 * at); x<<(8*at) == diff && x < 256 {
			return at, byte(x), true
		}
	}
	// The sum covers the body and then the rest of the header. The last byte contributes one entry
	// of the table; each step back removes a byte.
	for i := r.Size - recNumber - 1; i >= 0; i-- {
		x := crcTop[diff>>24]
		if castagnoli[x] == diff {
			if at = h + i; at >= r.Size {
				at -= r.Size - recNumber
			}
			return at, x, true
		}
		diff = (diff^castagnoli[x])<<8 | uint32(x)
	}
	return 0, 0, false
}

// crcTop is the inverse of the top bytes of castagnoli, which are all different.
var crcTop = func() (top [256]byte) {
	for i, x := range castagnoli {
		top[x>>24] = byte(i)
	}
	return top
}()
