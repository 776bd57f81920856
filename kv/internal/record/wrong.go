package record

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// LengthBytes returns where what says how long a record is lies: lengths, kind and
// flags, and how many levels and extents a list of runs has.
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

// WrongByte returns which byte of a parsed record is wrong, and how, if it is not one
// of those that say how long the record is. Its bytes begin b.
//
// The checksum is linear, so the difference between what it says and what it should
// say is that of the wrong bits alone, and a sum can be run backwards over the bytes,
// to where nothing but a byte is left of it.
func (r *Record) WrongByte(b []byte, seed uint64, carve uint32, off nvmap.Off) (at int, wrong byte, ok bool) {
	h := HeaderLen(r.Flags)
	sum := Sum(seed, BodySum(b[h:r.Size]), b[:h], carve, off)
	diff := sum ^ binary.LittleEndian.Uint32(b)
	for at := range recNumber { // of the checksum itself
		if x := diff >> (8 * at); x<<(8*at) == diff && x < 256 {
			return at, byte(x), true
		}
	}
	// The sum takes in the body and then the rest of the header. What its last byte
	// contributes is an entry of the table; each step back takes a byte off.
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

// crcTop is which entry of castagnoli has a top byte: each has another.
var crcTop = func() (top [256]byte) {
	for i, x := range castagnoli {
		top[x>>24] = byte(i)
	}
	return top
}()
