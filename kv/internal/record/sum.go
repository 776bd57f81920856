package record

import (
	"encoding/binary"
	"hash/crc32"

	"nvkv/internal/crc32c"
	"nvkv/nvmap"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of a record whose bytes behind the header are body:
// of the body first, which is computed before the writer's turn, then of the
// header, tied to the record's place.
func Sum(seed uint64, bodySum uint32, header []byte, carve uint32, off nvmap.Off) uint32 {
	return crc32c.Update(bodySum, header[recNumber:], nil) ^ PlaceTag(seed, carve, off)
}

// PlaceTag is what a record's checksum owes to where it lies: the store, the
// slab's carve number and the offset. The same bytes elsewhere do not pass. It
// is mixed as the finalizer of MurmurHash3 does (Appleby, 2008).
func PlaceTag(seed uint64, carve uint32, off nvmap.Off) uint32 {
	x := seed ^ uint64(off)*0x9e3779b97f4a7c15 ^ uint64(carve)*0xc2b2ae3d27d4eb4f
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

// BodySum is the checksum of what is tied to no place.
func BodySum(body []byte) uint32 { return crc32c.Sum(body, nil) }

// Sealed verifies the checksum of a parsed record whose bytes begin b.
func (r *Record) Sealed(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	h := HeaderLen(r.Flags)
	return sealedAt(b, h, r.Size, seed, carve, off)
}

// sealedAt verifies the checksum of a record with a header of h bytes and end
// bytes in all, in one go.
func sealedAt(b []byte, h, end int, seed uint64, carve uint32, off nvmap.Off) bool {
	return binary.LittleEndian.Uint32(b) == crc32c.Sum(b[h:end], b[recNumber:h])^PlaceTag(seed, carve, off)
}

// Seal fills in the checksum of a record whose header stands at the beginning of b,
// and whose bytes behind the header have the checksum body.
func (r *Record) Seal(b []byte, body uint32, seed uint64, carve uint32, off nvmap.Off) {
	binary.LittleEndian.PutUint32(b, Sum(seed, body, b[:HeaderLen(r.Flags)], carve, off))
}

// CarveOf looks in [from, end) for the carve number with which a parsed record
// passes, whose bytes begin b.
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

// PlaceSum is the checksum of an index page, an overflow page or a value block at
// o: tied to store and place, so that the same bytes elsewhere do not pass.
func PlaceSum(b []byte, seed uint64, o nvmap.Off) uint32 {
	return crc32.Checksum(b[4:], castagnoli) ^ PlaceTag(seed, 0, o)
}
