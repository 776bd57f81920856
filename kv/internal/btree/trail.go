package btree

import (
	"errors"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Trail walks the leaves of the current state by page versions, as lookup
// descends, and keeps every page that it has read with its version. If none of
// them has changed when the walk is over, then all that was read was there at
// one instant: the last moment before they were looked at again.
//
// As in lookup, every number that it meets may be garbage until then, and a
// parent is validated after its child's version was taken.
type Trail struct {
	ix    *Index
	steps [MaxHeight]stand
	top   int // level of the root
	vals  *Vals
	n     int // entries of the leaf
	seen  []sight
}

// stand is the page that a trail has taken on one level, and the entry of it.
type stand struct {
	sight
	at int
}

// sight is a page as a reader saw it.
type sight struct {
	page    nvmap.PageID
	version nvmap.Version
}

// ErrChanged says that the tree changed under a reader, which tries again.
var ErrChanged = errors.New("nvkv: changed meanwhile")

// Reset makes t a trail through ix; nil lets go of what it has.
func (t *Trail) Reset(ix *Index) { t.ix, t.vals = ix, nil }

// Seek goes to the leaf of key and returns the first entry of it that is not
// below key; there may be none.
func (t *Trail) Seek(key []byte) (int, error) {
	t.seen = t.seen[:0]
	id := nvmap.PageID(t.ix.published.Load())
	v, ok := t.ix.m.ReadBegin(id)
	if !ok || nvmap.PageID(t.ix.published.Load()) != id {
		return 0, ErrChanged
	}
	root := sight{id, v}
	pg, err := t.open(RootAt(id), root)
	if err != nil {
		return 0, err
	}
	t.top = Level(pg)
	t.steps[t.top].sight = root
	for level := t.top; level > 0; level-- {
		at, err := t.ix.childIndex(pg, key)
		if err != nil {
			return 0, t.failed(t.steps[level].sight, err)
		}
		if pg, err = t.descend(pg, level, at); err != nil {
			return 0, err
		}
	}
	at, _, err := t.ix.Search(pg, key)
	if err != nil {
		return 0, t.failed(t.steps[0].sight, err)
	}
	return min(at, t.n), nil
}

// descend takes entry at of the inner page pg of a level.
func (t *Trail) descend(pg *Page, level, at int) (*Page, error) {
	up := &t.steps[level]
	up.at = at
	c := ChildAt(pg, Count(pg), at)
	if !t.ix.within(c) {
		return nil, t.damaged(up.sight, "index page")
	}
	t.ix.prefetch(c)
	v, ok := t.ix.m.ReadBegin(c.Page)
	if !ok || !t.ix.m.ReadValid(up.page, up.version) {
		return nil, ErrChanged
	}
	here := sight{c.Page, v}
	next, err := t.open(c, here)
	if err != nil {
		return nil, err
	}
	t.steps[level-1].sight = here
	if level == 1 {
		t.vals, t.n = t.ix.Vals(c.Vals), min(Count(next), LeafFanout)
	}
	return next, nil
}

// open returns a page whose version was taken, and keeps it.
func (t *Trail) open(c Child, s sight) (*Page, error) {
	pg := t.ix.at(c.Page)
	if !t.ix.m.Known(c.Page) {
		if err := t.ix.met(c, pg); err != nil {
			return nil, t.failed(s, err)
		}
	}
	if !c.is(pg) {
		return nil, t.failed(s, c.wrong())
	}
	if len(t.seen) > int(t.ix.Visits()) { // of pages that hold nothing
		return nil, t.damaged(s, "index page, below more than one other")
	}
	t.seen = append(t.seen, s)
	return pg, nil
}

// NextLeaf is for ahead.
func (t *Trail) NextLeaf(a *Ahead) (bool, error) {
	for level := 1; level <= t.top; level++ {
		up := &t.steps[level]
		pg := t.ix.at(up.page)
		at := up.at + 1
		if at >= Count(pg) {
			continue
		}
		for ; level > 0; level-- {
			next, err := t.descend(pg, level, at)
			if err != nil {
				return false, err
			}
			pg, at = next, 0
		}
		t.askBeside()
		a.enter(t.vals, 0, t.n)
		return true, nil
	}
	return false, nil
}

// askBeside asks for the leaf behind this one, where both have the same parent.
func (t *Trail) askBeside() {
	up := &t.steps[1]
	pg := t.ix.at(up.page)
	if n := Count(pg); up.at+1 < n {
		if next := ChildAt(pg, n, up.at+1); t.ix.within(next) {
			t.ix.prefetchWalk(next)
		}
	}
}

// Stands says whether everything that was read is as it was.
func (t *Trail) Stands() bool {
	for _, s := range t.seen {
		if !t.ix.m.ReadValid(s.page, s.version) {
			return false
		}
	}
	return true
}

// failed tells damage from a page that changed under the reader.
func (t *Trail) failed(s sight, err error) error {
	if !t.ix.m.ReadValid(s.page, s.version) {
		return ErrChanged
	}
	return err
}

func (t *Trail) damaged(s sight, what string) error {
	return t.failed(s, &record.CorruptError{Off: uint64(s.page.Off()), Structure: what})
}
