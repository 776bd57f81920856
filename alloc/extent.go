package alloc

// Index slabs gather in extents: aligned stretches of extentBytes, so that the DRAM mirror behind
// them can use huge pages. A random descent of the tree then has few TLB misses, and the memory
// that the mirror commits is dense. Records avoid extents with index slabs as long as there is room
// elsewhere.
const (
	extentBytes = 2 << 20
	// extentsFrom is the size of a region, in bytes, below which index slabs may lie anywhere: a
	// small store should not grow by megabytes for them.
	extentsFrom = 8 << 20
	// scatterFrom is the number of free slabs, beyond the reserve, from which index slabs lie
	// anywhere instead of making the region grow.
	scatterFrom = 8
)

// extent counts the slabs of one extent.
type extent struct {
	slabs int16 // usable slabs that exist
	free  int16
	index bool // it gathers index slabs
}

func (r *Region) extentOf(i int) int { return int(r.geo.slabOff(i) / extentBytes) }

// extentSlabs returns the number of slabs in a whole extent.
func (r *Region) extentSlabs() int { return extentBytes / r.geo.slabBytes }

// addSlab adds new usable slab i to its extent.
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

// removeSlab is the inverse of addSlab for a free slab.
func (r *Region) removeSlab(i int) {
	r.countFree(int32(i), -1)
	r.extents[r.extentOf(i)].slabs--
	r.usable--
}

// countFree updates the counts and sets when slab i becomes free (+1) or stops being free (-1).
func (r *Region) countFree(i int32, d int) {
	r.freeSlabs += d
	r.countBlocks(r.slabs[i].blocks, d)
	e := &r.extents[r.extentOf(int(i))]
	e.free += int16(d)
	if e.index {
		r.freeIndex += d
	}
	if set := r.freeIn(int(i)); d > 0 {
		set.add(int(i))
	} else {
		set.remove(int(i))
	}
}

// gather makes extent e gather index slabs.
func (r *Region) gather(e int) {
	if r.extents[e].index {
		return
	}
	r.setGathering(e, true)
	r.m.PreferHuge(Off(e)*extentBytes, extentBytes)
}

// gatherAll finds the extents with index slabs when a store is opened.
func (r *Region) gatherAll() {
	for i := range r.slabs {
		if e := r.extentOf(i); isIndex(r.slabs[i].kind) && r.whole(e) {
			r.gather(e)
		}
	}
}

// whole reports whether all slabs of an extent exist. Some may hold metadata.
func (r *Region) whole(e int) bool {
	first := r.geo.slabOf(Off(e) * extentBytes)
	end := first + r.extentSlabs()
	return e > 0 && end <= len(r.slabs) && int(r.extents[e].slabs)+r.metaCount(first, end) == r.extentSlabs()
}

func isIndex(k Kind) bool { return k == KindPage || k == KindBlock }

// indexSlab returns a free slab of an extent that gathers index slabs. If none has room, it makes a
// wholly free extent gather them, growing the region if necessary. It returns none if there is no
// such extent or it does not pay yet. After an error other than ErrFull the next fence may not
// cover earlier writes.
func (r *Region) indexSlab() (int32, error) {
	if r.geo.sizeOf(len(r.slabs)) < extentsFrom || r.extentSlabs() < 2 {
		return none, nil
	}
	e := r.indexExtent()
	if e == none && r.freeSlabs > r.reserve+scatterFrom {
		return none, nil // do not grow while other slabs are free
	}
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

// growExtent grows the region so that it ends with a whole free extent, if possible.
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
