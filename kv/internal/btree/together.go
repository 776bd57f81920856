package btree

import (
	"bytes"

	"nvkv/nvmap"
)

// Together is how many keys FindTogether searches at once. The CPU has a bounded number of misses
// under way, so more keys would only wait.
const Together = 8

// FindNext is Find for a key that is not below the key to which p leads. p must be valid: since
// it was found, no page was split or merged, except in an Insert of the key to which it leads. The
// next key is often in the same leaf, and then the search begins there. On a device that is not
// mapped pages may have been evicted since, and Find verifies those that it reads again.
func (ix *Index) FindNext(key []byte, p *Path) error {
	if !ix.mapped {
		return ix.Find(key, p)
	}
	stays, err := ix.stays(key, p)
	if err != nil {
		return err
	}
	if !stays {
		return ix.Find(key, p)
	}
	up := p.steps[1]
	pg := ix.at(up.page)
	c := ChildAt(pg, Count(pg), up.at)
	return ix.inLeaf(&c, key, p)
}

// AskKey prefetches the beginning of a key.
func AskKey(key []byte) {
	if len(key) > 0 {
		ask(&key[0])
	}
}

// stays says whether key, which is not below a key of the leaf of p, certainly belongs there: the
// next separator of the leaf's parent is above it.
func (ix *Index) stays(key []byte, p *Path) (bool, error) {
	up := p.steps[1]
	pg := ix.at(up.page)
	n := Count(pg)
	if up.at+1 >= n || !bytes.HasPrefix(key, pagePrefix(pg)) {
		return false, nil
	}
	rest := key[pagePrefixLen(pg):]
	if h, next := headOf(rest), head(pg, up.at+1); h != next {
		return h < next, nil
	}
	c, err := ix.compare(pg, n, up.at+1, key, rest)
	return c > 0, err
}

// FindTogether is Find for at most Together keys in ascending order, each with its own path in ps.
// The waits of the keys for memory overlap: first for the heads of their leaves, then for their
// slots, then for their cells.
func (ix *Index) FindTogether(keys [][]byte, ps []Path) error {
	var leaves [Together]Child
	for _, key := range keys {
		AskKey(key)
	}
	for i, key := range keys {
		if i > 0 {
			stays, err := ix.stays(key, &ps[i-1])
			if err != nil {
				return err
			}
			if stays {
				copy(ps[i].steps[1:ix.height], ps[i-1].steps[1:ix.height])
				leaves[i] = leaves[i-1]
				continue
			}
		}
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
