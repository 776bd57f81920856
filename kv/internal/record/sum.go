package record

import (
	"encoding/binary"
	"hash/crc32"

	"nvkv/internal/crc32c"
	"nvkv/nvmap"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum returns the checksum of a record. bodySum is the BodySum of the bytes behind the header. It
// comes first, so that callers can compute it before they have the writer's turn. carve and off tie
// the sum to the record's place, seed to the store.
func Sum(seed uint64, bodySum uint32, header []byte, carve uint32, off nvmap.Off) uint32 {
	return crc32c.Update(bodySum, header[recNumber:], nil) ^ PlaceTag(seed, carve, off)
}

// PlaceTag returns the part of a checksum that depends on the place: the store, the slab's carve
// number and the offset. So a copy of the bytes at another place does not pass. The mixing function
// is the finalizer of MurmurHash3 (Appleby, 2008).
func PlaceTag(seed uint64, carve uint32, off nvmap.Off) uint32 {
	x := seed ^ uint64(off)*0x9e3779b97f4a7c15 ^ uint64(carve)*0xc2b2ae3d27d4eb4f
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

// BodySum returns the checksum of a body, which depends on no place.
func BodySum(body []byte) uint32 { return crc32c.Sum(body, nil) }

// Sealed says whether the checksum of a parsed record is right. The record's bytes begin b.
func (r *Record) Sealed(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	h := HeaderLen(r.Flags)
	return sealedAt(b, h, r.Size, seed, carve, off)
}

// sealedAt verifies the checksum of a record with a header of h bytes and end bytes in all, in one
// pass.
func sealedAt(b []byte, h, end int, seed uint64, carve uint32, off nvmap.Off) bool {
	return binary.LittleEndian.Uint32(b) == crc32c.Sum(b[h:end], b[recNumber:h])^PlaceTag(seed, carve, off)
}

// Seal writes the checksum of the record whose header is at the beginning of b. body is the BodySum
// of the bytes behind the header.
func (r *Record) Seal(b []byte, body uint32, seed uint64, carve uint32, off nvmap.Off) {
	binary.LittleEndian.PutUint32(b, Sum(seed, body, b[:HeaderLen(r.Flags)], carve, off))
}

// CarveOf searches [from, end) for a carve number with which the checksum of a parsed record is
// right. The record's bytes begin b.
func (r *Record) CarveOf(b []byte, seed uint64, off nvmap.Off, from, end int64) (carve uint32, ok bool) {
	h := HeaderLen(r.Flags)
	tag := binary.LittleEndian.Uint32(b) ^ crc32c.Sum(b[h:r.Size], b[recNumber:h])
	for c := from; c < end; c++ {
		if PlaceTag(seed, uint32(c), off) == tag {
			return uint32(c), true
		}
	}
	return 0, false
}

// PlaceSum returns the checksum of an index page, an overflow page or a value block at o. It
// depends on store and place, so a copy at another place does not pass.
func PlaceSum(b []byte, seed uint64, o nvmap.Off) uint32 {
	return crc32.Checksum(b[4:], castagnoli) ^ PlaceTag(seed, 0, o)
}
