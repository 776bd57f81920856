package btree

import (
	"errors"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Trail walks the leaves of the current state. Like Lookup it descends by page versions, and it
// keeps the version of every page that it has read. If none of them has changed when the walk ends,
// everything that was read was there at one instant: the moment before the versions were checked
// again.
//
// As in Lookup, every number may be garbage until then, and a parent is validated after its child's
// version was taken.
type Trail struct {
	ix    *Index
	steps [MaxHeight]trailStep
	top   int // level of the root
	vals  *Vals
	n     int // entries in the leaf
	seen  []seenPage
}

// trailStep is the page of a trail on one level, and the entry taken in it.
type trailStep struct {
	seenPage
	at int
}

// seenPage is a page with the version in which it was read.
type seenPage struct {
	page    nvmap.PageID
	version nvmap.Version
}

// ErrChanged says that the tree changed during a read. The caller starts again.
var ErrChanged = errors.New("nvkv: changed meanwhile")

// Reset prepares t for use with ix. With nil it releases its references to an index.
func (t *Trail) Reset(ix *Index) { t.ix, t.vals = ix, nil }

// Seek moves to the leaf of key and returns the leaf's first entry that is not below key, which may
// be the number of its entries.
func (t *Trail) Seek(key []byte) (int, error) {
	t.seen = t.seen[:0]
	id := nvmap.PageID(t.ix.published.Load())
	v, ok := t.ix.m.ReadBegin(id)
	if !ok || nvmap.PageID(t.ix.published.Load()) != id {
		return 0, ErrChanged
	}
	root := seenPage{id, v}
	pg, err := t.open(RootAt(id), root)
	if err != nil {
		return 0, err
	}
	t.top = Level(pg)
	t.steps[t.top].seenPage = root
	for level := t.top; level > 0; level-- {
		at, err := t.ix.childIndex(pg, key)
		if err != nil {
			return 0, t.failed(t.steps[level].seenPage, err)
		}
		if pg, err = t.descend(pg, level, at); err != nil {
			return 0, err
		}
	}
	at, _, err := t.ix.Search(pg, key)
	if err != nil {
		return 0, t.failed(t.steps[0].seenPage, err)
	}
	return min(at, t.n), nil
}

// descend takes entry at of the inner page pg. level is the level of pg.
func (t *Trail) descend(pg *Page, level, at int) (*Page, error) {
	up := &t.steps[level]
	up.at = at
	c := ChildAt(pg, Count(pg), at)
	if !t.ix.within(c) {
		return nil, t.damaged(up.seenPage, "index page")
	}
	t.ix.prefetch(c)
	v, ok := t.ix.m.ReadBegin(c.Page)
	if !ok || !t.ix.m.ReadValid(up.page, up.version) {
		return nil, ErrChanged
	}
	here := seenPage{c.Page, v}
	next, err := t.open(c, here)
	if err != nil {
		return nil, err
	}
	t.steps[level-1].seenPage = here
	if level == 1 {
		t.vals, t.n = t.ix.Vals(c.Vals), min(Count(next), LeafFanout)
	}
	return next, nil
}

// open returns a page whose version was taken, and keeps the version.
func (t *Trail) open(c Child, s seenPage) (*Page, error) {
	pg := t.ix.at(c.Page)
	if !t.ix.m.Known(c.Page) {
		if err := t.ix.met(c, pg); err != nil {
			return nil, t.failed(s, err)
		}
	}
	if !c.is(pg) {
		return nil, t.failed(s, c.wrong())
	}
	if len(t.seen) > int(t.ix.Visits()) { // a walk over pages without entries
		return nil, t.damaged(s, "index page with several parents")
	}
	t.seen = append(t.seen, s)
	return pg, nil
}

// NextLeaf implements leaves.
func (t *Trail) NextLeaf(a *Ahead) (bool, error) {
	more, err := t.onward()
	if more {
		a.enter(t.vals, 0, t.n)
	}
	return more, err
}

// onward moves to the next leaf. It returns false if there is none.
func (t *Trail) onward() (bool, error) {
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
		return true, nil
	}
	return false, nil
}

// askBeside prefetches the next leaf, if it has the same parent.
func (t *Trail) askBeside() {
	up := &t.steps[1]
	pg := t.ix.at(up.page)
	if n := Count(pg); up.at+1 < n {
		if next := ChildAt(pg, n, up.at+1); t.ix.within(next) {
			t.ix.prefetchWalk(next)
		}
	}
}

// Stands says whether no page that was read has changed.
func (t *Trail) Stands() bool {
	for _, s := range t.seen {
		if !t.ix.m.ReadValid(s.page, s.version) {
			return false
		}
	}
	return true
}

// failed returns ErrChanged if the page has changed under the reader, else err.
func (t *Trail) failed(s seenPage, err error) error {
	if !t.ix.m.ReadValid(s.page, s.version) {
		return ErrChanged
	}
	return err
}

func (t *Trail) damaged(s seenPage, what string) error {
	return t.failed(s, &record.CorruptError{Off: uint64(s.page.Off()), Structure: what})
}
