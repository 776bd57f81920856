package btree

import (
	"encoding/binary"

	"nvkv/internal/debug"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// own makes the page at a level of p one of the current epoch, and everything
// above it. Readers that are in the old page find it changed.
func (ix *Index) own(p *Path, level int) (*Page, error) {
	id := p.steps[level].page
	old := ix.at(id)
	if !p.holds(old, level) {
		return nil, reused(id)
	}
	if Birth(old) == ix.epoch {
		return ix.m.Frame(id)
	}
	var parent *Page
	var err error
	if level < ix.height-1 {
		if parent, err = ix.own(p, level+1); err != nil {
			return nil, err
		}
	}
	if debug.On && ix.inPlace {
		return ix.renew(p, level, parent)
	}
	np, err := ix.takePage()
	if err != nil {
		return nil, err
	}
	for _, s := range p.steps[:ix.height] {
		if s.page == np {
			return nil, reused(np)
		}
	}
	pg, err := ix.m.FreshFrame(np)
	if err != nil {
		return nil, err
	}
	if err := ix.r.SetLive(np.Off()); err != nil {
		return nil, err
	}
	*pg = *old
	setBirth(pg, ix.epoch)
	binary.LittleEndian.PutUint64(pg[pgSelf:], uint64(np))
	ix.m.SetVerified(np)
	p.steps[level].page = np
	if parent == nil {
		ix.setRoot(np)
	} else {
		ix.link(p, level, parent)
	}
	ix.left(id, Birth(old))
	return pg, nil
}

// holds says whether the page at a level of p is still one of that level, with the entry
// that p takes.
func (p *Path) holds(pg *Page, level int) bool {
	c := Child{level: int8(level)}
	if level == 0 {
		c.Vals = p.vals
	}
	return c.is(pg) && p.steps[level].at <= Count(pg)
}

// reused is the error for a page of the tree that was handed out as free: a map lied.
func reused(id nvmap.PageID) error {
	return &record.CorruptError{Off: uint64(id.Off()), Structure: "index page, which a slab map calls free,"}
}

// link has the parent name the page of a level, which is of this epoch.
func (ix *Index) link(p *Path, level int, parent *Page) {
	up, n := p.steps[level+1], Count(parent)
	c := ChildAt(parent, n, up.at)
	c.Page, c.born = p.steps[level].page, uint16(ix.epoch)
	ix.begin(up.page)
	setChildAt(parent, n, up.at, c)
	ix.end(up.page)
}

// linkVals has the parent name the leaf's value block, which is of this epoch.
func (ix *Index) linkVals(p *Path, parent *Page) {
	up, n := p.steps[1], Count(parent)
	c := ChildAt(parent, n, up.at)
	c.Vals, c.valsBorn = p.vals, uint16(ix.epoch)
	ix.begin(up.page)
	setChildAt(parent, n, up.at, c)
	ix.end(up.page)
}

// left says that the page id is no part of the tree any more.
func (ix *Index) left(id nvmap.PageID, birth uint64) {
	ix.moved++
	if ix.private {
		ix.replaced = append(ix.replaced, id)
	} else {
		ix.bump(id)
	}
	ix.depart(id.Off(), birth)
}

// depart retires a page or block that left the tree: after a private build is
// published, if that is under way, see letGo.
func (ix *Index) depart(o nvmap.Off, birth uint64) {
	if ix.private {
		ix.departed = append(ix.departed, leaver{o, birth})
		return
	}
	ix.retire(o, birth)
}

// bump makes readers that are in a page start again.
func (ix *Index) bump(id nvmap.PageID) {
	ix.begin(id)
	ix.end(id)
}

func (ix *Index) setRoot(id nvmap.PageID) {
	ix.moved++
	ix.root = id
	if !ix.private {
		ix.published.Store(uint64(id))
	}
}

// BeginPrivate starts a build beside the published tree: in a new epoch every
// page that it touches is copied. publishPrivate shows all of it at once.
func (ix *Index) BeginPrivate() {
	ix.epoch++
	ix.private, ix.before = true, ix.shape
}

func (ix *Index) PublishPrivate() {
	ix.step()
	ix.private = false
	ix.published.Store(uint64(ix.root))
	for _, id := range ix.replaced {
		ix.bump(id)
	}
	ix.replaced = ix.replaced[:0]
}

// ownVals makes the leaf's value block one of the current epoch. The caller
// holds the leaf's page in change, or the leaf is its own.
func (ix *Index) ownVals(p *Path) (*Vals, error) {
	old := ix.Vals(p.vals)
	if ValsBirth(old) == ix.epoch {
		return ix.valsFrame(p.vals)
	}
	parent, err := ix.own(p, 1)
	if err != nil {
		return nil, err
	}
	if debug.On && ix.inPlace {
		return ix.renewVals(p, parent)
	}
	n, b, err := ix.bornVals()
	if err != nil {
		return nil, err
	}
	*b = *old
	setVbBirth(b, ix.epoch)
	was := Child{Vals: p.vals}
	p.vals = n
	ix.linkVals(p, parent)
	if ix.private {
		ix.replaced = append(ix.replaced, p.steps[0].page)
	} else {
		ix.bump(p.steps[0].page)
	}
	ix.depart(was.ValsOff(), ValsBirth(old))
	return b, nil
}
