package btree

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Route maps keys to the leaves of a tree that does not change. It has lists of the inner pages,
// level by level. Leaf n is the n-th in key order.
type Route struct {
	ix     *Index
	levels [][]routerPage // from the root down
	leaves []Child

	// Arrays lead a key to the lowest inner page: the common prefix of the first keys of those
	// pages, the eight bytes of each behind the prefix, and the whole keys.
	prefix []byte
	leads  []uint64
	lows   [][]byte // lows[n] is the first key of page n+1
}

type routerPage struct {
	child Child
	pg    *Page
	low   []byte // lower bound of the keys below it; nil: open
	first uint32 // number of its first child among the pages of the level below
}

// Load lists the inner pages of the tree. If there is no tree, the route has one empty leaf.
func (t *Route) Load(ix *Index) error {
	t.ix = ix
	if ix.root == 0 {
		t.leaves = make([]Child, 1)
		return nil
	}
	root := RootAt(ix.root)
	root.level = int8(ix.height - 1)
	pages := []routerPage{{child: root}}
	for level := ix.height - 1; level > 0; level-- {
		below, leaves, err := t.loadLevel(pages, level)
		if err != nil {
			return err
		}
		t.levels = append(t.levels, pages)
		pages, t.leaves = below, leaves
	}
	t.loadLeads(t.levels[len(t.levels)-1])
	return nil
}

// loadLevel reads the pages of a level and returns the pages below. Below level 1 these are the
// leaves.
func (t *Route) loadLevel(pages []routerPage, level int) (below []routerPage, leaves []Child, err error) {
	children, most := 0, int(t.ix.Visits())
	for i := range pages {
		if i%ChildrenMost == 0 {
			t.ask(pages[i:])
		}
		p := &pages[i]
		if p.pg, err = t.ix.Load(p.child); err != nil {
			return nil, nil, err
		}
		p.first = uint32(children)
		n := Count(p.pg)
		if children += n; children > most {
			return nil, nil, &record.CorruptError{Off: uint64(p.child.Page.Off()), Structure: "index page with several parents"}
		}
		if level == 1 {
			leaves = slices.Grow(leaves, n)
			for j := range n {
				leaves = append(leaves, ChildAt(p.pg, n, j))
			}
			continue
		}
		for j := range n {
			low := p.low
			if j > 0 {
				if low, _, err = t.ix.KeyOf(p.pg, n, j); err != nil {
					return nil, nil, err
				}
			}
			if last := len(below) - 1; last >= 0 && bytes.Compare(below[last].low, low) >= 0 {
				return nil, nil, &record.CorruptError{Off: uint64(p.child.Page.Off()), Structure: "index page with keys out of order"}
			}
			below = append(below, routerPage{child: ChildAt(p.pg, n, j), low: low})
		}
	}
	return below, leaves, nil
}

// ask reads the first of these pages together.
func (t *Route) ask(pages []routerPage) {
	if t.ix.mapped {
		return
	}
	var ps []nvmap.PageID
	for _, p := range pages[:min(len(pages), ChildrenMost)] {
		ps = t.ix.childPages(ps, p.child)
	}
	t.ix.m.ReadAhead(ps)
}

func (t *Route) loadLeads(pages []routerPage) {
	if len(pages) < 2 {
		return
	}
	first, last := pages[1].low, pages[len(pages)-1].low
	t.prefix = first[:CommonPrefix(first, last)]
	for _, p := range pages[1:] {
		t.lows = append(t.lows, p.low)
		t.leads = append(t.leads, LeadOf(p.low[len(t.prefix):]))
	}
}

// lowest returns the number of the lowest inner page to which key belongs.
func (t *Route) lowest(key []byte) int {
	if len(t.lows) == 0 {
		return 0
	}
	if n := len(t.prefix); !bytes.HasPrefix(key, t.prefix) {
		if bytes.Compare(key[:min(n, len(key))], t.prefix) < 0 {
			return 0
		}
		return len(t.lows)
	}
	lead := LeadOf(key[len(t.prefix):])
	lo := lowerLead(t.leads, lead)
	if lo == len(t.leads) || t.leads[lo] != lead {
		return lo
	}
	hi := len(t.leads)
	if lead != ^uint64(0) {
		hi = lowerLead(t.leads, lead+1)
	}
	same, equal := slices.BinarySearchFunc(t.lows[lo:hi], key, bytes.Compare)
	if equal {
		same++
	}
	return lo + same
}

// lowerLead returns the first of leads that is not below lead. As in lowerHead, no branch depends
// on the numbers.
func lowerLead(leads []uint64, lead uint64) int {
	lo, n := 0, len(leads)
	for n > 1 {
		half := n >> 1
		_, below := bits.Sub64(leads[lo+half-1], lead, 0)
		lo += half & -int(below)
		n -= half
	}
	if n == 1 && leads[lo] < lead {
		lo++
	}
	return lo
}

// Leaf returns the number of the leaf to which key belongs.
func (t *Route) Leaf(key []byte) (uint32, error) {
	if len(t.levels) == 0 {
		return 0, nil
	}
	p := &t.levels[len(t.levels)-1][t.lowest(key)]
	i, err := t.ix.childIndex(p.pg, key)
	return p.first + uint32(i), err
}

// Leaves returns how many leaves there are.
func (t *Route) Leaves() int { return len(t.leaves) }

// Page returns a leaf for reading, Off its offset.
func (t *Route) Page(leaf uint32) (*Page, error) {
	return t.ix.Load(t.leaves[leaf])
}

func (t *Route) Off(leaf uint32) nvmap.Off { return t.leaves[leaf].Page.Off() }

// Vals returns the value block of a leaf that Page has returned.
func (t *Route) Vals(leaf uint32) *Vals { return t.ix.Vals(t.leaves[leaf].Vals) }

// Pages appends the pages of a leaf.
func (t *Route) Pages(dst []nvmap.PageID, leaf uint32) []nvmap.PageID {
	return t.ix.childPages(dst, t.leaves[leaf])
}

// parent returns the number of the page on level 1 above a leaf.
func (t *Route) parent(leaf uint32) int {
	return t.above(t.levels[len(t.levels)-1], leaf)
}

func (t *Route) above(level []routerPage, n uint32) int {
	k, equal := slices.BinarySearchFunc(level, n, func(p routerPage, n uint32) int { return cmp.Compare(p.first, n) })
	if !equal {
		k--
	}
	return k
}

// wayTo fills p with the path to a leaf in the current tree. Since the route was loaded, inner
// pages were copied at most, so the entries are unchanged.
func (t *Route) wayTo(p *Path, leaf uint32) {
	ix, levels := t.ix, t.levels
	var at [MaxHeight]int
	n := leaf
	for l := len(levels) - 1; l >= 0; l-- {
		k := t.above(levels[l], n)
		at[len(levels)-l] = int(n - levels[l][k].first)
		n = uint32(k)
	}
	id := ix.root
	for level := ix.height - 1; level > 0; level-- {
		p.steps[level] = step{id, at[level]}
		pg := ix.at(id)
		id = ChildAt(pg, Count(pg), at[level]).Page
	}
}
