package kv

import (
	"encoding/binary"

	"nvkv/internal/crc32c"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// slabReader reads records for scans on a mapped device. It keeps the slab of the last record,
// because the next record often lies in the same slab, and it reads several records at once: see
// crc32c.Sum4.
//
// Every walk looks slabs up again. While a walk lasts, the records that it meets stay allocated, or
// the walk finds out at its end that they did not.
type slabReader struct {
	db    *DB
	mem   []byte // the slab, in place; empty before the first record
	from  nvmap.Off
	slot  int // size of a slot in bytes
	carve uint32
}

// atOnce is how many records a slabReader reads at once.
const atOnce = 4

func (r *slabReader) reset(db *DB) { *r = slabReader{db: db} }

// bytes returns the bytes that a record at o may have at most. It is empty if no record can be
// there.
func (r *slabReader) bytes(o nvmap.Off) []byte {
	at := uint64(o - r.from)
	if at >= uint64(len(r.mem)) {
		if r.open(o); len(r.mem) == 0 {
			return nil
		}
		at = uint64(o - r.from)
	}
	return r.mem[at:min(at+uint64(r.slot), uint64(len(r.mem)))]
}

// open looks up the slab of o.
func (r *slabReader) open(o nvmap.Off) {
	s := r.db.r.RecordSlab(o)
	r.mem, r.from, r.slot, r.carve = r.db.m.View(s.From, s.Bytes), s.From, s.Slot, s.Carve
}

// four reads the records at xs if all of them are plain, like record.Plain.Parse. It sets bodies to
// key and value of each, side by side, and keys to the lengths of the keys. If it returns false,
// the results mean nothing.
func (r *slabReader) four(xs *[atOnce]btree.Ref, bodies *[atOnce][]byte, keys *[atOnce]int) bool {
	var headers [atOnce][]byte
	var sums, want [atOnce]uint32
	for i, x := range xs {
		if x&btree.RefBits != 0 {
			return false
		}
		b := r.bytes(x)
		key, value, end := record.PlainShape(b)
		if key == 0 {
			return false
		}
		want[i] = binary.LittleEndian.Uint32(b) ^ record.PlaceTag(r.db.seed, r.carve, x)
		bodies[i], headers[i], keys[i] = b[key:end], b[record.SumBytes:key], value-key
	}
	crc32c.Sum4(bodies, &headers, &sums)
	return sums == want
}
