package kv

import (
	"cmp"
	"slices"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// apply changes the tree: value blocks first, whose leaves stay where they are,
// then the keys that come and go.
func (rc *recovery) apply(parts []resolved) error {
	if err := rc.copyBlocks(parts); err != nil {
		return err
	}
	if err := rc.linkBlocks(parts); err != nil {
		return err
	}
	for i := range parts {
		for _, ch := range parts[i].changes {
			if err := rc.change(ch); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyBlocks writes the value blocks that change, each at a new place: of as many
// parts at a time as there is room for in DRAM.
func (rc *recovery) copyBlocks(parts []resolved) error {
	// A frame may have a single new block, and reading leaves this many frames.
	most := rc.db.m.CacheFrames() / 8
	for len(parts) > 0 {
		n, blocks := 0, 0
		for n < len(parts) && (n == 0 || blocks+len(parts[n].updates) <= most) {
			blocks += len(parts[n].updates)
			n++
		}
		if err := rc.copySome(parts[:n], blocks); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// copySome is copyBlocks for parts with n blocks together.
func (rc *recovery) copySome(parts []resolved, n int) error {
	ix := &rc.db.ix
	if n == 0 {
		return nil
	}
	if err := rc.db.roomFor(n); err != nil {
		return err
	}
	if err := ix.reserve(0, n, true); err != nil {
		return err
	}
	blocks := slices.Clone(ix.blocks[len(ix.blocks)-n:]) // the next parts' come to stand there
	ix.blocks = ix.blocks[:len(ix.blocks)-n]
	slices.Sort(blocks)
	at := 0
	for i := range parts {
		// Two parts may have blocks in one page, which gets its frame here.
		if at < n && len(parts[i].updates) > 0 {
			if err := ix.frameOf(blocks[at:]); err != nil {
				return err
			}
		}
		more := len(parts[i].updates)
		parts[i].into = blocks[at : at+more]
		at += more
	}
	var next atomic.Int64
	return rc.share(func(int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(parts) {
				return nil
			}
			if err := rc.copyPart(&parts[i]); err != nil {
				return err
			}
		}
	})
}

// blocksPerPage is how many value blocks share a page.
const blocksPerPage = nvmap.PageBytes / alloc.BlockBytes

// frameOf gives the page of blocks[0] a frame. The device is read only where
// another block of that page counts.
func (ix *index) frameOf(blocks []nvmap.Off) error {
	id, ours := blocks[0].Page(), 0
	for ours < len(blocks) && blocks[ours].Page() == id {
		ours++
	}
	var err error
	if ours == blocksPerPage && ix.m.Where(id) == nvmap.OnDevice {
		_, err = ix.m.FreshFrame(id)
	} else {
		_, err = ix.valsFrame(uint64(blocks[0] / alloc.BlockBytes))
	}
	return err
}

func (rc *recovery) copyPart(p *resolved) error {
	ix := &rc.db.ix
	sets := p.sets
	for i, u := range p.updates {
		if i > 0 && p.into[i].Page() != p.into[i-1].Page() {
			if err := ix.frameOf(p.into[i:]); err != nil {
				return err
			}
		}
		b, err := ix.valsFrame(uint64(p.into[i] / alloc.BlockBytes))
		if err != nil {
			return err
		}
		*b = *ix.vals(rc.route.leaves[u.leaf].vals)
		setVbBirth(b, ix.epoch)
		for _, s := range sets[:u.sets] {
			setValAt(b, int(s.at), s.ref)
		}
		sets = sets[u.sets:]
	}
	return nil
}

// linkBlocks names the new value blocks in the parents of their leaves.
func (rc *recovery) linkBlocks(parts []resolved) error {
	ix := &rc.db.ix
	var p path
	var parent *page
	at, leaf := -1, uint32(0) // page of level 1, and its first leaf
	for i := range parts {
		into := parts[i].into
		for j, u := range parts[i].updates {
			k := rc.route.parent(u.leaf)
			if k != at {
				if err := rc.db.roomFor(ix.height); err != nil {
					return err
				}
				if err := ix.reserve(ix.height, 0, true); err != nil {
					return err
				}
				at, leaf = k, rc.route.levels[len(rc.route.levels)-1][k].first
				rc.wayTo(&p, u.leaf)
				var err error
				if parent, err = ix.own(&p, 1); err != nil {
					return err
				}
			}
			n, i := pageCount(parent), int(u.leaf-leaf)
			c := childAt(parent, n, i)
			old := c.valsOff()
			birth := vbBirthOf(ix.vals(c.vals))
			c.vals = uint64(into[j] / alloc.BlockBytes)
			setChildAt(parent, n, i, c)
			ix.r.SetLive(into[j])
			ix.retire(old, birth)
		}
		parts[i].updates, parts[i].into, parts[i].sets = nil, nil, nil
	}
	return nil
}

// parent returns the page above a leaf, as its number on level 1.
func (t *router) parent(leaf uint32) int {
	return t.above(t.levels[len(t.levels)-1], leaf)
}

func (t *router) above(level []routerPage, n uint32) int {
	k, equal := slices.BinarySearchFunc(level, n, func(p routerPage, n uint32) int { return cmp.Compare(p.first, n) })
	if !equal {
		k--
	}
	return k
}

// wayTo fills in the way to a leaf in the tree as it is now. Its inner pages
// were copied at most since the router listed them: entries are where they were.
func (rc *recovery) wayTo(p *path, leaf uint32) {
	ix, levels := &rc.db.ix, rc.route.levels
	var at [maxHeight]int
	n := leaf
	for l := len(levels) - 1; l >= 0; l-- {
		k := rc.route.above(levels[l], n)
		at[len(levels)-l] = int(n - levels[l][k].first)
		n = uint32(k)
	}
	id := ix.root
	for level := ix.height - 1; level > 0; level-- {
		p.steps[level] = step{id, at[level]}
		pg := ix.at(id)
		id = childAt(pg, pageCount(pg), at[level]).page
	}
}

// change adds a key or takes one out.
func (rc *recovery) change(ch keyChange) error {
	db := rc.db
	es := [1]entry{{key: ch.key}}
	pages, blocks := db.pagesFor(es[:])
	if err := db.roomFor(pages + blocks); err != nil {
		return err
	}
	if err := db.ix.reserve(pages, blocks, true); err != nil {
		return err
	}
	p := &db.way
	if err := db.ix.find(ch.key, p); err != nil {
		return err
	}
	var err error
	switch {
	case ch.ref == 0 && p.found:
		db.keys--
		_, err = db.ix.remove(p)
	case ch.ref != 0 && !p.found:
		db.keys++
		err = db.ix.insert(ch.key, ch.ref, p)
	}
	db.holders.sweep(db.freePage)
	return err
}
