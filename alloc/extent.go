package alloc

// Index slabs gather in extents: stretches of extentBytes, aligned, so that
// the DRAM mirror behind them can be huge pages. A random walk down the tree
// then misses the TLB seldom, and what the mirror commits is dense. Records
// keep out of an extent that has index slabs as long as there is room elsewhere.
const (
	extentBytes = 2 << 20
	// extentsFrom is the size of a region, in bytes, below which index slabs
	// lie anywhere: a small store does not grow by megabytes for them.
	extentsFrom = 8 << 20
)

// extent counts the slabs of one stretch.
type extent struct {
	slabs int16 // usable ones that exist
	free  int16
	index bool // index slabs gather here
}

func (r *Region) extentOf(i int) int { return int(r.geo.slabOff(i) / extentBytes) }

// extentSlabs is how many usable slabs a whole extent has.
func (r *Region) extentSlabs() int { return extentBytes / r.geo.slabBytes }

// addSlab tells the extents of a new usable slab.
func (r *Region) addSlab(i int) {
	e := r.extentOf(i)
	for len(r.extents) <= e {
		r.extents = append(r.extents, extent{})
	}
	r.extents[e].slabs++
	r.usable++
	for g := i >> r.geo.groupShift; len(r.wear) <= g; {
		r.wear = append(r.wear, 0)
	}
}

// removeSlab is the inverse of addSlab, for one that is free.
func (r *Region) removeSlab(i int) {
	r.countFree(int32(i), -1)
	r.extents[r.extentOf(i)].slabs--
	r.usable--
}

// countFree follows a slab becoming free (+1) or not (-1).
func (r *Region) countFree(i int32, d int) {
	r.freeSlabs += d
	r.countBlocks(r.slabs[i].blocks, d)
	e := &r.extents[r.extentOf(int(i))]
	e.free += int16(d)
	if e.index {
		r.freeIndex += d
	}
}

// gather makes extent e one where index slabs gather.
func (r *Region) gather(e int) {
	x := &r.extents[e]
	if x.index {
		return
	}
	x.index = true
	r.freeIndex += int(x.free)
	r.m.PreferHuge(Off(e)*extentBytes, extentBytes)
}

// gatherAll finds the extents that have index slabs, when a store is opened.
func (r *Region) gatherAll() {
	for i := range r.slabs {
		if e := r.extentOf(i); isIndex(r.slabs[i].kind) && r.whole(e) {
			r.gather(e)
		}
	}
}

// whole says whether all of an extent is usable slabs.
func (r *Region) whole(e int) bool { return int(r.extents[e].slabs) == r.extentSlabs() }

func isIndex(k Kind) bool { return k == KindPage || k == KindBlock }

// indexSlab returns a free slab of an extent where index slabs gather, making
// a wholly free one such an extent where there is none with room; none if that
// cannot be, or does not pay yet. Behind an error other than ErrFull the next
// fence may not cover what was written.
func (r *Region) indexSlab() (int32, error) {
	if r.geo.sizeOf(len(r.slabs)) < extentsFrom || r.extentSlabs() < 2 {
		return none, nil
	}
	e := r.indexExtent()
	if e == none {
		if err := r.growExtent(); err != nil {
			return none, err
		}
		e = r.indexExtent()
	}
	if e == none {
		return none, nil
	}
	r.lastExtent = e
	first := int(r.geo.slabOf(Off(e) * extentBytes))
	for i := first; i < first+r.extentSlabs(); i++ {
		if r.isFree(i) {
			return int32(i), nil
		}
	}
	return none, nil
}

func (r *Region) indexExtent() int {
	if e := r.lastExtent; e < len(r.extents) && r.extents[e].index && r.extents[e].free > 0 {
		return e
	}
	whole := none
	for e := range r.extents {
		x := &r.extents[e]
		switch {
		case x.index && x.free > 0:
			return e
		case whole == none && r.whole(e) && x.free == x.slabs:
			whole = e
		}
	}
	if whole != none {
		r.gather(whole)
	}
	return whole
}

// growExtent grows the region until it ends with a whole free extent, where that
// can be.
func (r *Region) growExtent() error {
	old := len(r.slabs)
	for n := 1; n <= 2*r.geo.groupSlabs; n++ {
		end := r.geo.sizeOf(old + n)
		if end%extentBytes != 0 {
			continue
		}
		first := r.geo.slabOf(Off(end - extentBytes))
		if first >= old && !r.metaWithin(first, old+n) {
			return r.grow(n - r.metaCount(old, old+n))
		}
	}
	return nil
}

func (r *Region) metaWithin(from, to int) bool { return r.metaCount(from, to) > 0 }

func (r *Region) metaCount(from, to int) (n int) {
	for i := from; i < to; i++ {
		if r.geo.isMeta(i) {
			n++
		}
	}
	return n
}
