package btree

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Options are what an index needs beside its store.
type Options struct {
	Sections *Sections // in which pages are read; nil where nothing else is done meanwhile

	// retire is told of every page and block that left the tree and of the
	// epoch it was born in. It must not be used again before nobody sees it.
	Retire func(o nvmap.Off, birth uint64)

	// account is told of what the allocator says of a slot.
	Account func(err error)

	// room makes room for what is read ahead, or is nil. It is called in no section.
	Room func()

	InPlace bool // a test has switched I4 off
}

// Init makes ix an index without a tree.
func (ix *Index) Init(m *nvmap.Map, r *alloc.Region, o Options) {
	*ix = Index{
		m: m, r: r, seed: r.ID().Seed(), mapped: m.Device().Mapping() != nil,
		sections: o.Sections, retire: o.Retire, room: o.Room, account: o.Account, inPlace: o.InPlace,
	}
}

// State is what a checkpoint keeps of a tree.
type State struct {
	Root      nvmap.PageID
	RootBirth uint64
	Height    int
	Leaves    int
	HasLong   bool
}

// State returns what the tree is now.
func (ix *Index) State() State {
	return State{ix.root, Birth(ix.at(ix.root)), ix.height, ix.leaves, ix.hasLong}
}

// Open takes a tree as a checkpoint left it. What is born from now on is of the epoch.
func (ix *Index) Open(t State, epoch uint64) error {
	ix.epoch = epoch
	if t.Root == 0 {
		return nil
	}
	ix.shape = shape{t.Root, t.Height, t.Leaves}
	ix.hasLong = t.HasLong
	ix.published.Store(uint64(t.Root))
	root, err := ix.Load(RootAt(t.Root))
	if err != nil {
		return err
	}
	if Birth(root) != t.RootBirth {
		return &record.CorruptError{Off: uint64(t.Root.Off()), Structure: "index root of another time"}
	}
	if t.Height < 2 || t.Height > MaxHeight || Level(root) != t.Height-1 {
		return &record.CorruptError{Off: uint64(t.Root.Off()), Structure: "index root"}
	}
	return nil
}

// Mapped says whether the CPU reads the device in place.
func (ix *Index) Mapped() bool { return ix.mapped }

// Root returns the root that the writer works on, shown the one that readers begin at.
func (ix *Index) Root() nvmap.PageID      { return ix.root }
func (ix *Index) Published() nvmap.PageID { return nvmap.PageID(ix.published.Load()) }

// Height returns how many levels the tree has, leafCount how many leaves.
func (ix *Index) Height() int { return ix.height }
func (ix *Index) Leaves() int { return ix.leaves }

// HasLong says whether the tree has had keys that take overflow pages.
func (ix *Index) HasLong() bool { return ix.hasLong }

// Epoch returns the epoch: pages born in it may change in place. nextEpoch begins the
// next one.
func (ix *Index) Epoch() uint64 { return ix.epoch }
func (ix *Index) NextEpoch()    { ix.epoch++ }

// UndoEpoch goes back to the epoch before, if no page was born since and nobody looks at
// a page of it.
func (ix *Index) UndoEpoch() { ix.epoch-- }

// Private says whether a build beside the published tree is under way.
func (ix *Index) Private() bool { return ix.private }

// EachReserved calls fn for the pages and blocks that are reserved.
func (ix *Index) EachReserved(fn func(nvmap.Off)) {
	for _, p := range ix.pages {
		fn(p.Off())
	}
	for _, o := range ix.blocks {
		fn(o)
	}
}

// LetGo calls fn for some of what a private build took out of the tree, the most at a
// time, and returns how much is left.
func (ix *Index) LetGo(most int, fn func(o nvmap.Off, birth uint64)) (left int) {
	keep := max(0, len(ix.departed)-most)
	for _, d := range ix.departed[keep:] {
		fn(d.off, d.birth)
	}
	ix.departed = ix.departed[:keep]
	return keep
}
