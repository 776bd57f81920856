package alloc

import "sync/atomic"

// identities holds what every slab is carved into, eight bytes a slab, for
// readers that take no lock: the descriptors on the medium say the same in a
// line a slab, which a scan in random order would miss the cache for.
//
// Chunks are added as the region grows and never move.
type identities struct {
	chunks []atomic.Pointer[identityChunk]
}

const chunkSlabs = 4096

type identityChunk [chunkSlabs]atomic.Uint64

// makeIdentities has room for slabs slabs.
func makeIdentities(slabs int) identities {
	return identities{make([]atomic.Pointer[identityChunk], slabs/chunkSlabs+1)}
}

// set notes what slab i is carved into. One goroutine at a time calls it.
func (t *identities) set(i int, k Kind, c ClassID, carve uint32) {
	p := &t.chunks[i/chunkSlabs]
	chunk := p.Load()
	if chunk == nil {
		chunk = new(identityChunk)
		p.Store(chunk)
	}
	chunk[i%chunkSlabs].Store(uint64(carve) | uint64(k)<<32 | uint64(c)<<40)
}

// get returns what slab i is carved into; KindFree where it never was.
func (t *identities) get(i int) (Kind, ClassID, uint32) {
	if i < 0 || i/chunkSlabs >= len(t.chunks) {
		return KindFree, 0, 0
	}
	chunk := t.chunks[i/chunkSlabs].Load()
	if chunk == nil {
		return KindFree, 0, 0
	}
	w := chunk[i%chunkSlabs].Load()
	return Kind(w >> 32), ClassID(w >> 40), uint32(w)
}

// Carving is what a record's bytes are checked against.
type Carving struct {
	Carve uint32 // number of the slab's carving, which seeds checksums
	Bytes int    // from the offset on that a record there can have at most
}

// RecordSlab is a slab of records, for whoever reads many of one.
type RecordSlab struct {
	From  Off
	Bytes int
	Slot  int    // bytes of a slot; the last one ends with the slab, at the latest
	Carve uint32 // see Carving
}

// RecordSlab returns the slab of records that o lies in, the zero value if it lies
// in none. It is good for as long as some record in the slab is known to stay.
func (r *Region) RecordSlab(o Off) RecordSlab {
	if o < Off(r.geo.superBytes) {
		return RecordSlab{}
	}
	i := r.geo.slabOf(o)
	k, c, carve := r.identities.get(i)
	if k != KindRecord || int(c) >= len(r.table.size) {
		return RecordSlab{}
	}
	return RecordSlab{r.geo.slabOff(i), 1 << r.geo.slabShift, r.table.size[c], carve}
}

// RecordAt returns what the record slab of o is carved into; Bytes is 0 where o
// lies in none. Like Describe it takes no lock and is safe beside everything; it
// leaves open whether o is the beginning of a slot, which a record's checksum
// tells as well.
func (r *Region) RecordAt(o Off) Carving {
	s := r.RecordSlab(o)
	if s.Slot == 0 {
		return Carving{}
	}
	return Carving{s.Carve, min(s.Slot, s.Bytes-int(o-s.From))}
}
