package btree

import (
	"slices"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// A recovery changes the references of many leaves without changing their keys. Each such leaf gets
// a new value block, many at a time and by several goroutines. Afterwards the parents are changed
// to name the new blocks, so each parent is copied once.

type ValueSet struct {
	At  int32
	Ref Ref
}

// BlocksPerPage is how many value blocks share a page.
const BlocksPerPage = nvmap.PageBytes / alloc.BlockBytes

// FrameOf makes a frame for the page of blocks[0]. It reads the device only if the page has other
// blocks that are in use.
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

// TakeBlocks reserves n value blocks and takes them, in ascending order of their offsets.
func (ix *Index) TakeBlocks(n int) ([]nvmap.Off, error) {
	if err := ix.Reserve(0, n, true); err != nil {
		return nil, err
	}
	blocks := slices.Clone(ix.blocks[len(ix.blocks)-n:]) // reservations overwrite it
	ix.blocks = ix.blocks[:len(ix.blocks)-n]
	slices.Sort(blocks)
	return blocks, nil
}

// CopyVals fills the block at into, whose page has a frame, with a copy of a leaf's value block and
// changes some of the values. No reader sees the block before it is linked.
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

// linker makes the parents of leaves name new value blocks. The leaves come in ascending order.
type linker struct {
	t      *Route
	room   func(frames int) error
	p      Path
	parent *Page
	at     int    // number of the parent among the pages of level 1; -1: none yet
	first  uint32 // number of the parent's first leaf
}

// Linker returns a linker. It calls room before it needs frames, at a moment when it uses no page.
func (t *Route) Linker(room func(frames int) error) *linker {
	return &linker{t: t, room: room, at: -1}
}

// Link makes the parent of a leaf name the block at into, and retires the leaf's old block.
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

// turn moves to the k-th page of level 1, the parent of leaf.
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
