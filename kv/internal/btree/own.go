package btree

import (
	"encoding/binary"

	"nvkv/internal/debug"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// own makes the page at a level of p, and the pages above it, pages of the current epoch, by
// copying older ones. Readers of the old page see a new version of it.
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

// holds says whether the page at a level of p still has that level, and the entry of p.
func (p *Path) holds(pg *Page, level int) bool {
	c := Child{level: int8(level)}
	if level == 0 {
		c.Vals = p.vals
	}
	return c.is(pg) && p.steps[level].at <= Count(pg)
}

// reused returns the error for a page of the tree that was allocated again. The map of its slab was
// wrong.
func reused(id nvmap.PageID) error {
	return &record.CorruptError{Off: uint64(id.Off()), Structure: "index page, which a slab map calls free,"}
}

// link makes the parent name the page of p at a level, which is of the current epoch.
func (ix *Index) link(p *Path, level int, parent *Page) {
	up, n := p.steps[level+1], Count(parent)
	c := ChildAt(parent, n, up.at)
	c.Page, c.born = p.steps[level].page, uint16(ix.epoch)
	ix.begin(up.page)
	setChildAt(parent, n, up.at, c)
	ix.end(up.page)
}

// linkVals makes the parent name the value block of p, which is of the current epoch.
func (ix *Index) linkVals(p *Path, parent *Page) {
	up, n := p.steps[1], Count(parent)
	c := ChildAt(parent, n, up.at)
	c.Vals, c.valsBorn = p.vals, uint16(ix.epoch)
	ix.begin(up.page)
	setChildAt(parent, n, up.at, c)
	ix.end(up.page)
}

// left records that the page id is no longer part of the tree.
func (ix *Index) left(id nvmap.PageID, birth uint64) {
	ix.moved++
	if ix.private {
		ix.replaced = append(ix.replaced, id)
	} else {
		ix.bump(id)
	}
	ix.depart(id.Off(), birth)
}

// depart retires a page or block that left the tree. In a private build it is retired after the
// publication, see LetGo.
func (ix *Index) depart(o nvmap.Off, birth uint64) {
	if ix.private {
		ix.departed = append(ix.departed, leaver{o, birth})
		return
	}
	ix.retire(o, birth)
}

// bump changes the version of a page, so that readers of it start again.
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

// BeginPrivate starts a build beside the published tree. It begins a new epoch, so every page that
// it changes is copied. PublishPrivate shows all of it at once.
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

// ownVals makes the value block of the leaf one of the current epoch, by copying an older one.
// Either the caller has begun a change of the leaf, or readers cannot see the leaf yet.
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
