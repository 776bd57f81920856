package btree

import (
	"slices"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// A recovery changes what many leaves name without changing their keys. Each of them
// gets a new value block, many at a time and by several goroutines; the parents name the
// blocks afterwards, each of which is copied once.

type ValueSet struct {
	At  int32
	Ref Ref
}

// BlocksPerPage is how many value blocks share a page.
const BlocksPerPage = nvmap.PageBytes / alloc.BlockBytes

// FrameOf gives the page of blocks[0] a frame. The device is read only where
// another block of that page counts.
func (ix *Index) FrameOf(blocks []nvmap.Off) error {
	id, ours := blocks[0].Page(), 0
	for ours < len(blocks) && blocks[ours].Page() == id {
		ours++
	}
	var err error
	if ours == BlocksPerPage && ix.m.Where(id) == nvmap.OnDevice {
		_, err = ix.m.FreshFrame(id)
	} else {
		_, err = ix.valsFrame(uint64(blocks[0] / alloc.BlockBytes))
	}
	return err
}

// TakeBlocks reserves n value blocks and takes them, in the order of their places.
func (ix *Index) TakeBlocks(n int) ([]nvmap.Off, error) {
	if err := ix.Reserve(0, n, true); err != nil {
		return nil, err
	}
	blocks := slices.Clone(ix.blocks[len(ix.blocks)-n:]) // the next ones come to stand there
	ix.blocks = ix.blocks[:len(ix.blocks)-n]
	slices.Sort(blocks)
	return blocks, nil
}

// CopyVals makes the block at into, whose page has a frame, that of a leaf with some
// of its values changed. Nobody sees it before it is linked.
func (t *Route) CopyVals(leaf uint32, into nvmap.Off, sets []ValueSet) error {
	b, err := t.ix.valsFrame(uint64(into / alloc.BlockBytes))
	if err != nil {
		return err
	}
	*b = *t.Vals(leaf)
	setVbBirth(b, t.ix.epoch)
	for _, s := range sets {
		setValAt(b, int(s.At), s.Ref)
	}
	return nil
}

// linker names new value blocks in the parents of their leaves, which come in order.
type linker struct {
	t      *Route
	room   func(frames int) error
	p      Path
	parent *Page
	at     int    // page of level 1; -1: none
	first  uint32 // its first leaf
}

// Linker returns a linker that asks room for frames, when it looks at no page.
func (t *Route) Linker(room func(frames int) error) *linker {
	return &linker{t: t, room: room, at: -1}
}

// Link names the block at into in the parent of a leaf, whose old one is retired.
func (l *linker) Link(leaf uint32, into nvmap.Off) error {
	ix := l.t.ix
	if k := l.t.parent(leaf); k != l.at {
		if err := l.turn(k, leaf); err != nil {
			return err
		}
	}
	n, i := Count(l.parent), int(leaf-l.first)
	c := ChildAt(l.parent, n, i)
	old := c.ValsOff()
	birth := ValsBirth(ix.Vals(c.Vals))
	c.Vals, c.valsBorn = uint64(into/alloc.BlockBytes), uint16(ix.epoch)
	setChildAt(l.parent, n, i, c)
	if err := ix.r.SetLive(into); err != nil {
		return err
	}
	ix.retire(old, birth)
	return nil
}

// turn goes on to the k-th page of level 1, above a leaf.
func (l *linker) turn(k int, leaf uint32) (err error) {
	ix := l.t.ix
	if err := l.room(ix.height); err != nil {
		return err
	}
	l.at, l.first = k, l.t.levels[len(l.t.levels)-1][k].first
	l.t.wayTo(&l.p, leaf)
	copies := 0
	for level := 1; level < ix.height; level++ {
		if Birth(ix.at(l.p.steps[level].page)) != ix.epoch {
			copies++
		}
	}
	if err := ix.Reserve(copies, 0, true); err != nil {
		return err
	}
	l.parent, err = ix.own(&l.p, 1)
	return err
}
