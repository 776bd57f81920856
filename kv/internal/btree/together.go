package btree

import "nvkv/nvmap"

// Together is how many keys FindTogether searches at once. The CPU has a bounded number of misses
// under way, so more keys would only wait.
const Together = 8

// FindTogether is Find for at most Together keys, each with its own path in ps. The waits of the
// keys for memory overlap: first for the heads of their leaves, then for their slots, then for
// their cells.
func (ix *Index) FindTogether(keys [][]byte, ps []Path) error {
	var leaves [Together]Child
	for i, key := range keys {
		c, err := ix.toLeaf(key, &ps[i])
		if err != nil {
			return err
		}
		leaves[i] = c
	}
	ix.askTogether(keys, leaves[:len(keys)])
	for i, key := range keys {
		if err := ix.inLeaf(&leaves[i], key, &ps[i]); err != nil {
			return err
		}
	}
	return nil
}

// askTogether prefetches the parts of each leaf that the search for its key reads, and the
// reference of the key.
func (ix *Index) askTogether(keys [][]byte, leaves []Child) {
	if !ix.mapped {
		ps := make([]nvmap.PageID, 0, 2*Together)
		for _, c := range leaves {
			ps = ix.childPages(ps, c)
		}
		ix.m.ReadAhead(ps)
		return
	}
	var slots [Together]int
	for i, c := range leaves {
		pg := ix.m.Page(c.Page)
		rest := keys[i][min(pagePrefixLen(pg), len(keys[i])):]
		n := Count(pg)
		at := min(lowerHead(pg, n, headOf(rest)), LeafFanout-1)
		slots[i] = min(slotsAt(n)+slotWidth*at, len(pg)-slotWidth)
		ask(&pg[slots[i]])
		vals := ix.Vals(c.Vals)
		ask(&vals[0])
		ask(&vals[vbHeader+vbEntry*at])
	}
	for i, c := range leaves {
		pg := ix.m.Page(c.Page)
		ask(&pg[min(u16(pg, slots[i]), len(pg)-1)])
	}
}

// Spot is the place at which a key was found. It is valid until a key of the tree moves.
type Spot struct {
	leaf  nvmap.PageID
	vals  uint64
	at    int32
	found bool
}

func (p *Path) spot() Spot {
	return Spot{p.steps[0].page, p.vals, int32(p.steps[0].at), p.found}
}

// Moved returns how often keys may have moved.
func (ix *Index) Moved() uint64 { return ix.moved }

// UpdateAt is Update for a spot that still holds. ok is false if that takes more than a change in
// place, or if the key is not there.
func (ix *Index) UpdateAt(s *Spot, rec nvmap.Off) (old nvmap.Off, ok bool, err error) {
	if !s.found || ValsBirth(ix.Vals(s.vals)) != ix.epoch {
		return 0, false, nil
	}
	b, err := ix.valsFrame(s.vals)
	if err != nil {
		return 0, false, err
	}
	return ix.point(s.leaf, b, int(s.at), rec), true, nil
}
