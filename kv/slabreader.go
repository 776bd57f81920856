package kv

import (
	"encoding/binary"

	"nvkv/internal/crc32c"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// slabReader reads records for scans, where the device is mapped. It keeps what
// it has looked up about the slab of the last one, in which the next one often
// lies, and reads several at once: see crc32c.Sum4.
//
// A slab is looked up again for every walk: while a walk lasts, something keeps
// the records that it meets from being freed, or finds out that they were.
type slabReader struct {
	db    *DB
	mem   []byte // the slab, in place; empty before the first
	from  nvmap.Off
	slot  int // bytes of a slot
	carve uint32
}

// atOnce is how many records a slabReader reads at once.
const atOnce = 4

func (r *slabReader) reset(db *DB) { *r = slabReader{db: db} }

// bytes returns what a record at o can have at most, empty where none can be.
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

// open looks up the slab that o lies in.
func (r *slabReader) open(o nvmap.Off) {
	s := r.db.r.RecordSlab(o)
	r.mem, r.from, r.slot, r.carve = r.db.m.View(s.From, s.Bytes), s.From, s.Slot, s.Carve
}

// four reads the records that xs name if all of them are what most are, as
// record.Plain.Parse does: bodies gets key and value of each, side by side, and keys the
// lengths of the keys. false says nothing of any of them.
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
