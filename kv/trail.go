package kv

import (
	"errors"

	"nvkv/nvmap"
)

// trail walks the leaves of the current state by page versions, as lookup
// descends, and keeps every page that it has read with its version. If none of
// them has changed when the walk is over, then all that was read was there at
// one instant: the last moment before they were looked at again.
//
// As in lookup, every number that it meets may be garbage until then, and a
// parent is validated after its child's version was taken.
type trail struct {
	ix    *index
	steps [maxHeight]stand
	top   int // level of the root
	vals  *vblock
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

// errChanged says that the tree changed under a reader, which tries again.
var errChanged = errors.New("nvkv: changed meanwhile")

// seek goes to the leaf of key and returns the first entry of it that is not
// below key; there may be none.
func (t *trail) seek(key []byte) (int, error) {
	t.seen = t.seen[:0]
	id := nvmap.PageID(t.ix.published.Load())
	v, ok := t.ix.m.ReadBegin(id)
	if !ok || nvmap.PageID(t.ix.published.Load()) != id {
		return 0, errChanged
	}
	root := sight{id, v}
	pg, err := t.open(child{page: id}, root)
	if err != nil {
		return 0, err
	}
	if t.top = pageLevel(pg); t.top < 1 || t.top >= maxHeight {
		return 0, t.damaged(root, "index root")
	}
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
	at, _, err := t.ix.search(pg, key)
	if err != nil {
		return 0, t.failed(t.steps[0].sight, err)
	}
	return min(at, t.n), nil
}

// descend takes entry at of the inner page pg of a level.
func (t *trail) descend(pg *page, level, at int) (*page, error) {
	up := &t.steps[level]
	up.at = at
	c := childAt(pg, pageCount(pg), at)
	if !t.ix.within(c) || (level == 1) != (c.vals != 0) {
		return nil, t.damaged(up.sight, "index page")
	}
	t.ix.prefetch(c)
	v, ok := t.ix.m.ReadBegin(c.page)
	if !ok || !t.ix.m.ReadValid(up.page, up.version) {
		return nil, errChanged
	}
	here := sight{c.page, v}
	next, err := t.open(c, here)
	if err != nil {
		return nil, err
	}
	if pageLevel(next) != level-1 {
		return nil, t.damaged(here, "index page level")
	}
	t.steps[level-1].sight = here
	if level == 1 {
		t.vals, t.n = t.ix.vals(c.vals), min(pageCount(next), leafFanout)
	}
	return next, nil
}

// open returns a page whose version was taken, and keeps it.
func (t *trail) open(c child, s sight) (*page, error) {
	pg := t.ix.at(c.page)
	if !t.ix.m.Known(c.page) {
		if err := t.ix.met(c, pg); err != nil {
			return nil, t.failed(s, err)
		}
	}
	t.seen = append(t.seen, s)
	return pg, nil
}

// nextLeaf is for ahead.
func (t *trail) nextLeaf(a *ahead) (bool, error) {
	for level := 1; level <= t.top; level++ {
		up := &t.steps[level]
		pg := t.ix.at(up.page)
		at := up.at + 1
		if at >= pageCount(pg) {
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
func (t *trail) askBeside() {
	up := &t.steps[1]
	pg := t.ix.at(up.page)
	if n := pageCount(pg); up.at+1 < n {
		if next := childAt(pg, n, up.at+1); t.ix.within(next) {
			t.ix.prefetchWalk(next)
		}
	}
}

// stands says whether everything that was read is as it was.
func (t *trail) stands() bool {
	for _, s := range t.seen {
		if !t.ix.m.ReadValid(s.page, s.version) {
			return false
		}
	}
	return true
}

// failed tells damage from a page that changed under the reader.
func (t *trail) failed(s sight, err error) error {
	if !t.ix.m.ReadValid(s.page, s.version) {
		return errChanged
	}
	return err
}

func (t *trail) damaged(s sight, what string) error {
	return t.failed(s, &CorruptError{Off: uint64(s.page.Off()), Structure: what})
}
