package alloc

import "sync/atomic"

// identities holds the identity of every slab, eight bytes each, for readers that take no lock. The
// descriptors on the medium hold the same in a line per slab, so a scan in random order would miss
// the cache at each of them.
//
// Chunks are added as the region grows and never move.
type identities struct {
	chunks []atomic.Pointer[identityChunk]
}

const chunkSlabs = 4096

type identityChunk [chunkSlabs]atomic.Uint64

// makeIdentities returns identities with room for the given number of slabs.
func makeIdentities(slabs int) identities {
	return identities{make([]atomic.Pointer[identityChunk], slabs/chunkSlabs+1)}
}

// set stores the identity of slab i. Only one goroutine at a time may call it.
func (t *identities) set(i int, k Kind, c ClassID, carve uint32) {
	p := &t.chunks[i/chunkSlabs]
	chunk := p.Load()
	if chunk == nil {
		chunk = new(identityChunk)
		p.Store(chunk)
	}
	chunk[i%chunkSlabs].Store(uint64(carve) | uint64(k)<<32 | uint64(c)<<40)
}

// get returns the identity of slab i, or KindFree if it was never carved.
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

// Carving gives the values against which the bytes of a record are checked.
type Carving struct {
	Carve uint32 // carve number of the slab, which seeds checksums
	Bytes int    // largest size of a record at the offset
}

// RecordSlab describes a slab of records, for callers that read many records of one.
type RecordSlab struct {
	From  Off
	Bytes int
	Slot  int    // bytes of a slot; the last slot ends with the slab or before
	Carve uint32 // see Carving
}

// RecordSlab returns the record slab that contains o, or the zero value if there is none. It is
// valid as long as the caller knows that some record in the slab stays.
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

// RecordAt returns the Carving for offset o. Bytes is 0 if o is in no record slab. Like Describe it
// takes no lock and may be called at any time. It does not check that o is the beginning of a slot;
// the checksum of the record does.
func (r *Region) RecordAt(o Off) Carving {
	s := r.RecordSlab(o)
	if s.Slot == 0 {
		return Carving{}
	}
	return Carving{s.Carve, min(s.Slot, s.Bytes-int(o-s.From))}
}
