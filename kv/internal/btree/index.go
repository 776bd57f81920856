package btree

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Index is the ordered index: a B+-tree of pages. A page lives in a DRAM frame until a checkpoint
// has written it to the device.
//
// The writer (the goroutine with the turn) changes a page in place if it was born in the current
// epoch. It copies an older page first, because a snapshot or a checkpoint may read it. Readers of
// the current state validate page versions (lookup.go). Readers of a snapshot need no versions,
// because nothing that they reach changes (cursor.go).
//
// The root is always an inner page, even above a single leaf.
type Index struct {
	m        *nvmap.Map
	r        *alloc.Region
	seed     uint64 // of the store, for checksums
	sections *Sections
	mapped   bool // the CPU reads the device in place

	published atomic.Uint64 // the root at which readers begin
	shape                   // the writer's root; height: levels with the leaves, at least 2
	epoch     uint64        // pages born in it may be changed in place
	hasLong   bool          // some key was over maxInline: a split may need overflow pages

	pages    []nvmap.PageID // reserved for the current commit
	blocks   []nvmap.Off
	borrowed bool           // some of them are of the kept room, see Reserve
	beyond   int            // pages and blocks taken without a reservation; for tests
	moved    uint64         // changes that may have moved keys: see Spot
	changing []nvmap.PageID // pages between begin and end
	private  bool           // a build beside the published tree is under way
	replaced []nvmap.PageID // pages whose versions change when the private build is published
	departed []leaver       // pages and blocks that the private build took out of the tree
	before   shape          // the shape before the private build
	seam     func()         // a test's, or nil; see OnStep
	inPlace  bool           // a test has switched I4 off
	checks   checks         // of a debug build

	retire  func(o nvmap.Off, birth uint64) // see Options
	room    func()
	account func(err error)

	scratch  Page
	scratch2 Page
}

const MaxHeight = 16

// leaver is a page or block that left the tree.
type leaver struct {
	off   nvmap.Off
	birth uint64
}

// shape is the state of an index besides its pages.
type shape struct {
	root           nvmap.PageID
	height, leaves int
}

// step is an entry on the path from the root.
type step struct {
	page nvmap.PageID
	at   int // the entry
}

// Path is the path to a key, or to the entry at which it would be inserted. steps[0] is the leaf.
type Path struct {
	steps [MaxHeight]step
	vals  uint64 // value block of the leaf
	found bool
}

// NewTree makes an empty tree. The caller has reserved its pages.
func (ix *Index) NewTree() error {
	leaf, _, err := ix.bornPage(0, nil)
	if err != nil {
		return err
	}
	vals, _, err := ix.bornVals()
	if err != nil {
		return err
	}
	root, pg, err := ix.bornPage(1, nil)
	if err != nil {
		return err
	}
	insertEntry(pg, 0, pageItem{}, ix.newborn(leaf, vals), &ix.scratch)
	ix.root, ix.height, ix.leaves = root, 2, 1
	ix.published.Store(uint64(root))
	return nil
}

// newborn returns the Child for a page of the current epoch, with its value block if it is a leaf.
func (ix *Index) newborn(id nvmap.PageID, vals uint64) Child {
	c := Child{Page: id, born: uint16(ix.epoch)}
	if vals != 0 {
		c.Vals, c.valsBorn = vals, uint16(ix.epoch)
	}
	return c
}

// valsFrame returns a value block for writing.
func (ix *Index) valsFrame(n uint64) (*Vals, error) {
	o := nvmap.Off(n) * alloc.BlockBytes
	at := int(o % nvmap.PageBytes)
	pg, err := ix.m.FramePart(o.Page(), at, at+alloc.BlockBytes)
	if err != nil {
		return nil, err
	}
	return (*Vals)(pg[at:]), nil
}

// Vals returns a value block for reading.
func (ix *Index) Vals(n uint64) *Vals {
	o := nvmap.Off(n) * alloc.BlockBytes
	pg := ix.at(o.Page())
	return (*Vals)(pg[o%nvmap.PageBytes:])
}

// Find fills p with the path to key. Only the writer may call it.
func (ix *Index) Find(key []byte, p *Path) error {
	c, err := ix.toLeaf(key, p)
	if err != nil {
		return err
	}
	return ix.inLeaf(&c, key, p)
}

// toLeaf finds and prefetches the leaf of key, which is within the device.
func (ix *Index) toLeaf(key []byte, p *Path) (Child, error) {
	c := RootAt(ix.root)
	c.level = int8(ix.height - 1)
	if !ix.within(c) {
		return c, outside(c)
	}
	for level := ix.height - 1; level > 0; level-- {
		pg, err := ix.load(&c)
		if err != nil {
			return c, err
		}
		i, err := ix.childIndex(pg, key)
		if err != nil {
			return c, err
		}
		p.steps[level] = step{c.Page, i}
		c = childIn(pg, Count(pg), i)
		if c.above = Birth(pg); !ix.within(c) {
			return c, outside(c)
		}
		ix.prefetch(c)
	}
	return c, nil
}

// inLeaf ends Find in the leaf c.
func (ix *Index) inLeaf(c *Child, key []byte, p *Path) error {
	pg, err := ix.load(c)
	if err != nil {
		return err
	}
	at, found, err := ix.Search(pg, key)
	p.steps[0], p.vals, p.found = step{c.Page, at}, c.Vals, found
	return err
}

// Old returns the reference of the entry that p found.
func (ix *Index) Old(p *Path) nvmap.Off { return ValAt(ix.Vals(p.vals), p.steps[0].at) }

// Update replaces the reference of an existing key and returns the old one.
func (ix *Index) Update(p *Path, rec nvmap.Off) (nvmap.Off, error) {
	b, err := ix.ownVals(p)
	if err != nil {
		return 0, err
	}
	old := ix.point(p.steps[0].page, b, p.steps[0].at, rec)
	ix.checks.entry(ix, p)
	return old, nil
}

// point points an entry of a leaf at another record and returns the one it pointed at.
func (ix *Index) point(leaf nvmap.PageID, b *Vals, at int, rec nvmap.Off) nvmap.Off {
	old := ValAt(b, at)
	ix.beginVals(leaf)
	setValAt(b, at, rec)
	ix.end(leaf)
	return old
}

// Insert adds a new key. p is the path to its place.
func (ix *Index) Insert(key []byte, rec nvmap.Off, p *Path) error {
	var c chain
	if len(key) > maxInline {
		ix.hasLong = true
		var err error
		if c, err = ix.writeChain(key); err != nil {
			return err
		}
	}
	for range splitsOfOne * MaxHeight {
		ok, err := ix.insertAt(key, c, rec, p)
		if ok || err != nil {
			return err
		}
		if err := ix.split(p, 0); err != nil {
			return err
		}
		if err := ix.Find(key, p); err != nil {
			return err
		}
	}
	// The splits made no room where the key belongs, so the separators are wrong.
	return misplaced(ix.at(p.steps[0].page))
}

// insertAt adds a key if the leaf has room for it, and says whether it had.
func (ix *Index) insertAt(key []byte, c chain, rec nvmap.Off, p *Path) (bool, error) {
	leaf := ix.at(p.steps[0].page)
	n := Count(leaf)
	it, err := itemFor(leaf, key, c)
	if err != nil {
		return false, err
	}
	if n == LeafFanout || freeBytes(leaf) < entryBytes(leaf, len(it.cell)) {
		return false, nil
	}
	leaf, err = ix.own(p, 0)
	if err != nil {
		return false, err
	}
	b, err := ix.ownVals(p)
	if err != nil {
		return false, err
	}
	id, at := p.steps[0].page, p.steps[0].at
	ix.begin(id)
	insertEntry(leaf, at, it, Child{}, &ix.scratch)
	copy(b[vbHeader+vbEntry*(at+1):], b[vbHeader+vbEntry*at:vbHeader+vbEntry*n])
	setValAt(b, at, rec)
	ix.end(id)
	ix.checks.entry(ix, p)
	return true, nil
}

// itemFor returns what a page stores of key. The key must have the prefix of the page: a key
// without it belongs to another page, so the separators above this page are wrong.
func itemFor(pg *Page, key []byte, c chain) (pageItem, error) {
	if !bytes.HasPrefix(key, pagePrefix(pg)) {
		return pageItem{}, misplaced(pg)
	}
	rest := key[pagePrefixLen(pg):]
	if len(key) <= maxInline {
		return itemOf(rest), nil
	}
	return pageItem{headOf(rest), longLen, c.cell()}, nil
}

// Misplaced returns the error for a leaf whose keys do not belong there: the leaf of p.
func (ix *Index) Misplaced(p *Path) error { return misplaced(ix.at(p.steps[0].page)) }

// misplaced returns the error for a page whose keys do not belong there.
func misplaced(pg *Page) error {
	self := nvmap.PageID(binary.LittleEndian.Uint64(pg[pgSelf:]))
	return &record.CorruptError{Off: uint64(self.Off()), Structure: "index page, whose keys are not those that lead to it,"}
}

// KeyOf returns a copy of the key of entry i of pg, and its overflow chain if it is a long one.
func (ix *Index) KeyOf(pg *Page, n, i int) ([]byte, chain, error) {
	off, length, long := cell(pg, n, i)
	if !long {
		key := append(make([]byte, 0, pagePrefixLen(pg)+headBytes+length), pagePrefix(pg)...)
		return appendRest(key, pg, n, i), chain{}, nil
	}
	k, err := ix.longKey(pg[off : off+longCell])
	return k, chainOf(pg, n, i), err
}

// fences returns the bounds of all keys below the page at a level of p: not below low, below high.
// nil: open.
func (ix *Index) fences(p *Path, level int) (low, high []byte, err error) {
	for l := level + 1; l < ix.height; l++ {
		pg := ix.at(p.steps[l].page)
		n, at := Count(pg), p.steps[l].at
		if low == nil && at > 0 {
			if low, _, err = ix.KeyOf(pg, n, at); err != nil {
				return nil, nil, err
			}
		}
		if high == nil && at+1 < n {
			if high, _, err = ix.KeyOf(pg, n, at+1); err != nil {
				return nil, nil, err
			}
		}
	}
	return low, high, nil
}

// Remove removes the key that p found and returns its reference.
func (ix *Index) Remove(p *Path) (nvmap.Off, error) {
	leaf, err := ix.own(p, 0)
	if err != nil {
		return 0, err
	}
	b, err := ix.ownVals(p)
	if err != nil {
		return 0, err
	}
	id, at, n := p.steps[0].page, p.steps[0].at, Count(leaf)
	old := ValAt(b, at)
	gone := chainOf(leaf, n, at)
	ix.begin(id)
	removeEntry(leaf, at)
	copy(b[vbHeader+vbEntry*at:], b[vbHeader+vbEntry*(at+1):vbHeader+vbEntry*n])
	ix.end(id)
	ix.leftChain(gone)
	return old, ix.merge(p, 0)
}
