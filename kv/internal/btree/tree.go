package btree

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Options are the parts of a store that an index uses.
type Options struct {
	Sections *Sections // in which pages are read; nil if no other goroutine uses the store

	// Retire is called for every page and block that leaves the tree, with its epoch of birth. It
	// must not be reused before no holder can see it.
	Retire func(o nvmap.Off, birth uint64)

	// Account is called with the result of a call to the allocator that frees a slot.
	Account func(err error)

	// Room makes room in the cache before reading ahead, or is nil. It is called outside of
	// sections.
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

// State is the part of a checkpoint's payload that describes the tree.
type State struct {
	Root      nvmap.PageID
	RootBirth uint64
	Height    int
	Leaves    int
	HasLong   bool
}

// State returns the current state of the tree.
func (ix *Index) State() State {
	return State{ix.root, Birth(ix.at(ix.root)), ix.height, ix.leaves, ix.hasLong}
}

// Open opens the tree of a checkpoint. Pages that are born from now on have this epoch.
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

// Root returns the root that the writer uses, Published the one at which readers begin.
func (ix *Index) Root() nvmap.PageID      { return ix.root }
func (ix *Index) Published() nvmap.PageID { return nvmap.PageID(ix.published.Load()) }

// Height returns how many levels the tree has, Leaves how many leaves.
func (ix *Index) Height() int { return ix.height }
func (ix *Index) Leaves() int { return ix.leaves }

// HasLong says whether the tree has ever had a key in overflow pages.
func (ix *Index) HasLong() bool { return ix.hasLong }

// Epoch returns the current epoch: pages born in it may be changed in place. NextEpoch begins the
// next one.
func (ix *Index) Epoch() uint64 { return ix.epoch }
func (ix *Index) NextEpoch()    { ix.epoch++ }

// UndoEpoch returns to the previous epoch. No page may have been born since, and no holder may see
// that epoch.
func (ix *Index) UndoEpoch() { ix.epoch-- }

// Private says whether a build beside the published tree is under way.
func (ix *Index) Private() bool { return ix.private }

// EachReserved calls fn for every reserved page and block.
func (ix *Index) EachReserved(fn func(nvmap.Off)) {
	for _, p := range ix.pages {
		fn(p.Off())
	}
	for _, o := range ix.blocks {
		fn(o)
	}
}

// LetGo calls fn for at most most of the pages and blocks that a private build took out of the
// tree, and returns how many are left.
func (ix *Index) LetGo(most int, fn func(o nvmap.Off, birth uint64)) (left int) {
	keep := max(0, len(ix.departed)-most)
	for _, d := range ix.departed[keep:] {
		fn(d.off, d.birth)
	}
	ix.departed = ix.departed[:keep]
	return keep
}
