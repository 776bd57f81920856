package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// index is the ordered index: a B+-tree of pages that live in DRAM frames
// while they are young and on the device once a checkpoint has written them.
//
// The writer (whoever holds the turn) changes a page in place when it was born
// in the current epoch, and copies it first when it is older: then a snapshot
// or a checkpoint may be looking at it. Readers of the current state validate
// page versions (lookup.go); readers of a snapshot need not, because nothing
// that they reach changes (cursor.go).
//
// The root is always an inner page, also above a single leaf.
type index struct {
	m        *nvmap.Map
	r        *alloc.Region
	sections *sections
	mapped   bool // the CPU reads the device in place

	published atomic.Uint64 // root that readers begin at
	root      nvmap.PageID  // root that the writer works on
	height    int           // levels, leaves included; at least 2
	leaves    int
	epoch     uint64 // pages born in it may change in place
	hasLong   bool   // some key is over maxInline: splits may need overflow pages

	pages    []nvmap.PageID // reserved for the commit under way
	blocks   []nvmap.Off
	private  bool           // building beside the published tree
	replaced []nvmap.PageID // pages whose versions change when a private build is published
	inPlace  bool           // a test has switched I4 off

	// retire is told of every page and block that left the tree and of the
	// epoch it was born in. It must not be used again before nobody sees it.
	retire func(o nvmap.Off, birth uint64)

	// room makes room for what is read ahead, or is nil. It is called in no section.
	room func()

	scratch  page
	scratch2 page
}

const maxHeight = 16

// step is a place on the way from the root to an entry.
type step struct {
	page nvmap.PageID
	at   int // entry taken
}

// path leads to a key, or to where it would stand. steps[0] is the leaf.
type path struct {
	steps [maxHeight]step
	vals  uint64 // value block of the leaf
	found bool
}

// newTree makes an empty tree. Pages must be reserved.
func (ix *index) newTree() error {
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
	insertEntry(pg, 0, 0, nil, false, child{leaf, vals}, &ix.scratch)
	ix.root, ix.height, ix.leaves = root, 2, 1
	ix.published.Store(uint64(root))
	return nil
}

// reserve makes sure that pages and blocks can be taken without an error:
// nothing may fail once the first record of a commit is stored.
func (ix *index) reserve(pages, blocks int, urgent bool) error {
	for len(ix.pages) < pages {
		p, err := ix.r.AllocPage(urgent)
		if err != nil {
			return err
		}
		ix.pages = append(ix.pages, p)
	}
	for len(ix.blocks) < blocks {
		b, err := ix.r.AllocBlock(urgent)
		if err != nil {
			return err
		}
		ix.blocks = append(ix.blocks, b)
	}
	return nil
}

func (ix *index) takePage() (nvmap.PageID, error) {
	if len(ix.pages) == 0 {
		if err := ix.reserve(1, 0, true); err != nil {
			return 0, err
		}
	}
	last := len(ix.pages) - 1
	p := ix.pages[last]
	ix.pages = ix.pages[:last]
	return p, nil
}

// bornPage makes a new, empty page that nobody sees yet.
func (ix *index) bornPage(level int, prefix []byte) (nvmap.PageID, *page, error) {
	id, err := ix.takePage()
	if err != nil {
		return 0, nil, err
	}
	pg, err := ix.m.FreshFrame(id)
	if err != nil {
		return 0, nil, err
	}
	ix.r.SetLive(id.Off())
	initPage(pg, id, level, ix.epoch, prefix)
	ix.m.SetVerified(id)
	return id, pg, nil
}

// bornVals makes a new value block that nobody sees yet.
func (ix *index) bornVals() (uint64, *vblock, error) {
	if len(ix.blocks) == 0 {
		if err := ix.reserve(0, 1, true); err != nil {
			return 0, nil, err
		}
	}
	last := len(ix.blocks) - 1
	o := ix.blocks[last]
	ix.blocks = ix.blocks[:last]
	b, err := ix.valsFrame(uint64(o / alloc.BlockBytes))
	if err != nil {
		return 0, nil, err
	}
	ix.r.SetLive(o)
	clear(b[:])
	setVbBirth(b, ix.epoch)
	return uint64(o / alloc.BlockBytes), b, nil
}

// valsFrame returns a value block for writing.
func (ix *index) valsFrame(n uint64) (*vblock, error) {
	o := nvmap.Off(n) * alloc.BlockBytes
	at := int(o % nvmap.PageBytes)
	pg, err := ix.m.FramePart(o.Page(), at, at+alloc.BlockBytes)
	if err != nil {
		return nil, err
	}
	return (*vblock)(pg[at:]), nil
}

// vals returns a value block for reading.
func (ix *index) vals(n uint64) *vblock {
	o := nvmap.Off(n) * alloc.BlockBytes
	pg := ix.at(o.Page())
	return (*vblock)(pg[o%nvmap.PageBytes:])
}

// within says whether c names places inside the device.
func (ix *index) within(c child) bool {
	size := nvmap.Off(ix.m.Size())
	return c.page != 0 && c.page.Off()+nvmap.PageBytes <= size && c.valsOff()+alloc.BlockBytes <= size
}

// load returns a page for reading. Pages read from the device are verified
// once an opening, a leaf together with its value block.
func (ix *index) load(c child) (*page, error) {
	if !ix.within(c) {
		return nil, &CorruptError{Off: uint64(c.page.Off()), Structure: "index child"}
	}
	pg := ix.at(c.page)
	if !ix.m.Known(c.page) {
		if err := ix.met(c, pg); err != nil {
			return nil, err
		}
	}
	return pg, nil
}

// met verifies a page that was not met since the map was opened, or since its
// frame went, and tells the cache's policy of it.
func (ix *index) met(c child, pg *page) error {
	ix.m.Touch(c.page)
	if c.vals != 0 {
		ix.m.Touch(c.valsOff().Page())
	}
	if ix.m.Verified(c.page) {
		return nil
	}
	return ix.verify(c, pg)
}

// verify looks at checksums. What is dirty has none yet: it came from nowhere
// but this process.
func (ix *index) verify(c child, pg *page) error {
	if !ix.whole(c.page, 1<<blocksPerPage-1, func() bool { return pageSealed(pg, c.page) }) {
		return &CorruptError{Off: uint64(c.page.Off()), Structure: "index page"}
	}
	if c.vals != 0 {
		o := c.valsOff()
		part := uint(1) << (o % nvmap.PageBytes / alloc.BlockBytes)
		if !ix.whole(o.Page(), part, func() bool { return valsSealed(ix.vals(c.vals)) }) {
			return &CorruptError{Off: uint64(o), Structure: "value block"}
		}
	}
	ix.m.SetVerified(c.page)
	return nil
}

// whole says whether parts of a page are as they were written back, or younger.
// What is dirty has no checksum yet, and may become so while it is looked at: it
// is looked at again before it is called damaged.
func (ix *index) whole(id nvmap.PageID, parts uint, sealed func() bool) bool {
	for range 3 {
		if ix.m.DirtyParts(id)&parts != 0 || sealed() {
			return true
		}
	}
	return false
}

// search returns the first entry of pg whose key is not below key, and whether
// it is equal.
func (ix *index) search(pg *page, key []byte) (int, bool, error) {
	n := pageCount(pg)
	pl := pagePrefixLen(pg)
	if len(key) < pl {
		return 0, false, nil // only in a page that is being changed
	}
	rest := key[pl:]
	h := headOf(rest)
	lo := lowerHead(pg, n, h)
	if lo == n || head(pg, lo) != h {
		return lo, false, nil
	}
	hi := lo + 1
	if hi < n && head(pg, hi) == h {
		hi = n
		if h != ^uint32(0) {
			hi = lowerHead(pg, n, h+1)
		}
	}
	for lo < hi {
		mid := (lo + hi) / 2
		c, err := ix.compare(pg, n, mid, key, rest)
		if err != nil {
			return 0, false, err
		}
		switch {
		case c == 0:
			return mid, true, nil
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false, nil
}

// compare compares entry i of pg with key, whose rest behind the prefix is rest.
func (ix *index) compare(pg *page, n, i int, key, rest []byte) (int, error) {
	off, length, long := cell(pg, n, i)
	if !long {
		return compareRest(pg, off, length, rest), nil
	}
	k, err := ix.longKey(pg[off : off+longCell])
	if err != nil {
		return 0, err
	}
	return bytes.Compare(k, key), nil
}

// childIndex returns the entry of an inner page below which key belongs.
func (ix *index) childIndex(pg *page, key []byte) (int, error) {
	i, equal, err := ix.search(pg, key)
	if !equal && i > 0 {
		i--
	}
	return i, err
}

// find leads to key. Only the writer may call it.
func (ix *index) find(key []byte, p *path) error {
	c := child{page: ix.root}
	for level := ix.height - 1; ; level-- {
		pg, err := ix.load(c)
		if err != nil {
			return err
		}
		if pageLevel(pg) != level {
			return &CorruptError{Off: uint64(c.page.Off()), Structure: "index page level"}
		}
		if level == 0 {
			at, found, err := ix.search(pg, key)
			p.steps[0], p.vals, p.found = step{c.page, at}, c.vals, found
			return err
		}
		i, err := ix.childIndex(pg, key)
		if err != nil {
			return err
		}
		p.steps[level] = step{c.page, i}
		c = childAt(pg, pageCount(pg), i)
		if ix.within(c) {
			ix.prefetch(c)
		}
	}
}

// old returns the record that p.found stands for.
func (ix *index) old(p *path) nvmap.Off { return valAt(ix.vals(p.vals), p.steps[0].at) }

// own makes the page at a level of p one of the current epoch, and everything
// above it. Readers that are in the old page find it changed.
func (ix *index) own(p *path, level int) (*page, error) {
	id := p.steps[level].page
	old := ix.at(id)
	if pageBirth(old) == ix.epoch {
		return ix.m.Frame(id)
	}
	var parent *page
	var err error
	if level < ix.height-1 {
		if parent, err = ix.own(p, level+1); err != nil {
			return nil, err
		}
	}
	if ix.inPlace {
		return ix.renew(id)
	}
	np, err := ix.takePage()
	if err != nil {
		return nil, err
	}
	pg, err := ix.m.FreshFrame(np)
	if err != nil {
		return nil, err
	}
	ix.r.SetLive(np.Off())
	*pg = *old
	setBirth(pg, ix.epoch)
	binary.LittleEndian.PutUint64(pg[pgSelf:], uint64(np))
	ix.m.SetVerified(np)
	p.steps[level].page = np
	if parent == nil {
		ix.setRoot(np)
	} else {
		up := p.steps[level+1]
		n := pageCount(parent)
		c := childAt(parent, n, up.at)
		c.page = np
		ix.m.BeginChange(up.page)
		setChildAt(parent, n, up.at, c)
		ix.m.EndChange(up.page)
	}
	ix.left(id, pageBirth(old))
	return pg, nil
}

// left says that the page id is no part of the tree any more.
func (ix *index) left(id nvmap.PageID, birth uint64) {
	if ix.private {
		ix.replaced = append(ix.replaced, id)
	} else {
		ix.bump(id)
	}
	ix.retire(id.Off(), birth)
}

// bump makes readers that are in a page start again.
func (ix *index) bump(id nvmap.PageID) {
	ix.m.BeginChange(id)
	ix.m.EndChange(id)
}

func (ix *index) setRoot(id nvmap.PageID) {
	ix.root = id
	if !ix.private {
		ix.published.Store(uint64(id))
	}
}

// beginPrivate starts a build beside the published tree: in a new epoch every
// page that it touches is copied. publishPrivate shows all of it at once.
func (ix *index) beginPrivate() {
	ix.epoch++
	ix.private = true
}

func (ix *index) publishPrivate() {
	ix.private = false
	ix.published.Store(uint64(ix.root))
	for _, id := range ix.replaced {
		ix.bump(id)
	}
	ix.replaced = ix.replaced[:0]
}

// ownVals makes the leaf's value block one of the current epoch. The caller
// holds the leaf's page in change, or the leaf is its own.
func (ix *index) ownVals(p *path) (*vblock, error) {
	old := ix.vals(p.vals)
	if vbBirthOf(old) == ix.epoch {
		return ix.valsFrame(p.vals)
	}
	parent, err := ix.own(p, 1)
	if err != nil {
		return nil, err
	}
	if ix.inPlace {
		return ix.renewVals(p.vals)
	}
	n, b, err := ix.bornVals()
	if err != nil {
		return nil, err
	}
	*b = *old
	setVbBirth(b, ix.epoch)
	was := child{vals: p.vals}
	up := p.steps[1]
	count := pageCount(parent)
	c := childAt(parent, count, up.at)
	c.vals = n
	ix.m.BeginChange(up.page)
	setChildAt(parent, count, up.at, c)
	ix.m.EndChange(up.page)
	p.vals = n
	if ix.private {
		ix.replaced = append(ix.replaced, p.steps[0].page)
	} else {
		ix.bump(p.steps[0].page)
	}
	ix.retire(was.valsOff(), vbBirthOf(old))
	return b, nil
}

// update points a key that is there at another record and returns the one it
// pointed at.
func (ix *index) update(p *path, rec nvmap.Off) (nvmap.Off, error) {
	b, err := ix.ownVals(p)
	if err != nil {
		return 0, err
	}
	leaf, at := p.steps[0].page, p.steps[0].at
	old := valAt(b, at)
	ix.m.BeginChange(leaf)
	setValAt(b, at, rec)
	ix.m.EndChange(leaf)
	return old, nil
}

// insert adds a key that is not there. p leads to where it belongs.
func (ix *index) insert(key []byte, rec nvmap.Off, p *path) error {
	chain := nvmap.PageID(0)
	if len(key) > maxInline {
		ix.hasLong = true
		var err error
		if chain, err = ix.writeChain(key); err != nil {
			return err
		}
	}
	for {
		ok, err := ix.insertAt(key, chain, rec, p)
		if ok || err != nil {
			return err
		}
		if err := ix.split(p, 0); err != nil {
			return err
		}
		if err := ix.find(key, p); err != nil {
			return err
		}
	}
}

// insertAt adds a key where there is room for it.
func (ix *index) insertAt(key []byte, chain nvmap.PageID, rec nvmap.Off, p *path) (bool, error) {
	leaf := ix.at(p.steps[0].page)
	n := pageCount(leaf)
	h, c, long := makeCell(pagePrefixLen(leaf), key, chain)
	if n == leafFanout || freeBytes(leaf) < entryBytes(leaf, len(c)) {
		return false, nil
	}
	leaf, err := ix.own(p, 0)
	if err != nil {
		return false, err
	}
	b, err := ix.ownVals(p)
	if err != nil {
		return false, err
	}
	id, at := p.steps[0].page, p.steps[0].at
	ix.m.BeginChange(id)
	insertEntry(leaf, at, h, c, long, child{}, &ix.scratch)
	copy(b[vbHeader+vbEntry*(at+1):], b[vbHeader+vbEntry*at:vbHeader+vbEntry*n])
	setValAt(b, at, rec)
	ix.m.EndChange(id)
	return true, nil
}

// makeCell returns what a page with the given prefix stores of key.
func makeCell(prefixLen int, key []byte, chain nvmap.PageID) (h uint32, c []byte, long bool) {
	rest := key[prefixLen:]
	h = headOf(rest)
	if len(key) <= maxInline {
		return h, rest, false
	}
	c = make([]byte, longCell)
	binary.LittleEndian.PutUint64(c, uint64(len(key))|uint64(chain)<<16)
	return h, c, true
}

// fullKey returns entry i of pg as a key of its own, and its overflow chain if
// it is a long one.
func (ix *index) fullKey(pg *page, n, i int) ([]byte, nvmap.PageID, error) {
	off, length, long := cell(pg, n, i)
	if !long {
		return append(append(make([]byte, 0, pagePrefixLen(pg)+length), pagePrefix(pg)...), pg[off:off+length]...), 0, nil
	}
	k, err := ix.longKey(pg[off : off+longCell])
	return k, nvmap.PageID(binary.LittleEndian.Uint64(pg[off:]) >> 16), err
}

// fences returns the keys between which everything below the page at a level
// of p lies; nil where it is open.
func (ix *index) fences(p *path, level int) (low, high []byte, err error) {
	for l := level + 1; l < ix.height; l++ {
		pg := ix.at(p.steps[l].page)
		n, at := pageCount(pg), p.steps[l].at
		if low == nil && at > 0 {
			if low, _, err = ix.fullKey(pg, n, at); err != nil {
				return nil, nil, err
			}
		}
		if high == nil && at+1 < n {
			if high, _, err = ix.fullKey(pg, n, at+1); err != nil {
				return nil, nil, err
			}
		}
	}
	return low, high, nil
}

// splitPoint returns the entry that becomes the first of the right page: the
// middle by bytes, or near the end where keys are appended in order.
func splitPoint(pg *page, at int) int {
	n := pageCount(pg)
	if at >= n-1 {
		return max(1, n-1-n/10)
	}
	half, sum := usedBytes(pg)/2, 0
	for i := range n {
		_, length, _ := cell(pg, n, i)
		sum += entryBytes(pg, length)
		if sum >= half {
			return min(max(i, 1), n-1)
		}
	}
	return n / 2
}

// split makes room at a level of p, or above it where the parent cannot take
// another separator. p leads nowhere afterwards: find again.
func (ix *index) split(p *path, level int) error {
	pg := ix.at(p.steps[level].page)
	n := pageCount(pg)
	mid := splitPoint(pg, p.steps[level].at)
	sep, chain, err := ix.splitKey(pg, n, mid, level)
	if err != nil {
		return err
	}
	if level == ix.height-1 {
		if err := ix.growRoot(p); err != nil {
			return err
		}
	} else {
		parent := ix.at(p.steps[level+1].page)
		_, c, _ := makeCell(pagePrefixLen(parent), sep, chain)
		if freeBytes(parent) < entryBytes(parent, len(c)) {
			return ix.split(p, level+1)
		}
	}
	return ix.splitAt(p, level, mid, sep, chain)
}

// splitKey returns the separator for a split before entry mid: cut to the
// shortest between leaves, moved up between inner pages.
func (ix *index) splitKey(pg *page, n, mid, level int) ([]byte, nvmap.PageID, error) {
	b, chain, err := ix.fullKey(pg, n, mid)
	if err != nil || level > 0 {
		return b, chain, err
	}
	a, _, err := ix.fullKey(pg, n, mid-1)
	if err != nil {
		return nil, 0, err
	}
	return separator(a, b), 0, nil
}

// growRoot puts a new root above the old one.
func (ix *index) growRoot(p *path) error {
	if ix.height == maxHeight {
		return fmt.Errorf("nvkv: index would exceed %d levels", maxHeight)
	}
	old := p.steps[ix.height-1].page
	id, pg, err := ix.bornPage(ix.height, nil)
	if err != nil {
		return err
	}
	insertEntry(pg, 0, 0, nil, false, child{page: old}, &ix.scratch)
	p.steps[ix.height] = step{id, 0}
	ix.height++
	// The old root must not validate as a root any more once it is split:
	// setRoot comes before its EndChange in splitAt.
	ix.setRoot(id)
	return nil
}

func (ix *index) splitAt(p *path, level, mid int, sep []byte, chain nvmap.PageID) error {
	left, err := ix.own(p, level)
	if err != nil {
		return err
	}
	var lv *vblock
	if level == 0 {
		if lv, err = ix.ownVals(p); err != nil {
			return err
		}
	}
	if len(sep) > maxInline && chain == 0 {
		if chain, err = ix.writeChain(sep); err != nil {
			return err
		}
	}
	low, high, err := ix.fences(p, level)
	if err != nil {
		return err
	}
	n := pageCount(left)
	ix.scratch2 = *left
	src := &ix.scratch2
	rid, right, err := ix.bornPage(level, fencePrefix(sep, high))
	if err != nil {
		return err
	}
	if err := ix.fill(right, src, mid, n); err != nil {
		return err
	}
	rc := child{page: rid}
	if level == 0 {
		ix.leaves++
		num, rv, err := ix.bornVals()
		if err != nil {
			return err
		}
		rc.vals = num
		copy(rv[vbHeader:], lv[vbHeader+vbEntry*mid:vbHeader+vbEntry*n])
	}
	up := p.steps[level+1]
	parent, err := ix.own(p, level+1)
	if err != nil {
		return err
	}
	up.page = p.steps[level+1].page
	h, c, long := makeCell(pagePrefixLen(parent), sep, chain)
	leftID := p.steps[level].page
	ix.m.BeginChange(up.page)
	ix.m.BeginChange(leftID)
	initPage(left, leftID, level, ix.epoch, fencePrefix(low, sep))
	err = ix.fill(left, src, 0, mid)
	insertEntry(parent, up.at+1, h, c, long, rc, &ix.scratch)
	ix.m.EndChange(leftID)
	ix.m.EndChange(up.page)
	return err
}

// fill puts entries [a, b) of src into the empty page dst. Their keys have
// dst's prefix.
func (ix *index) fill(dst, src *page, a, b int) error {
	sn, sp := pageCount(src), pagePrefix(src)
	n, pl := b-a, pagePrefixLen(dst)
	top := u16(dst, pgHeapTop)
	for j := range n {
		off, length, long := cell(src, sn, a+j)
		h, slotLen := uint32(0), 0
		switch {
		case j == 0 && payload(dst) > 0: // stands for all below entry 1
			slotLen = 0
		case long:
			k, err := ix.longKey(src[off : off+longCell])
			if err != nil {
				return err
			}
			top -= longCell
			copy(dst[top:], src[off:off+longCell])
			h, slotLen = headOf(k[pl:]), longLen
		default:
			cut := max(pl-len(sp), 0)
			lead := sp[min(pl, len(sp)):]
			slotLen = len(lead) + length - cut
			top -= slotLen
			copy(dst[top:], lead)
			copy(dst[top+len(lead):], src[off+cut:off+length])
			h = headOf(dst[top : top+slotLen])
		}
		setHead(dst, j, h)
		put16(dst, slotsAt(n)+slotWidth*j, top)
		put16(dst, slotsAt(n)+slotWidth*j+2, slotLen)
		if payload(dst) > 0 {
			setChildAt(dst, n, j, childAt(src, sn, a+j))
		}
	}
	put16(dst, pgCount, n)
	put16(dst, pgHeapTop, top)
	return nil
}

// remove takes a key that is there out and returns its record.
func (ix *index) remove(p *path) (nvmap.Off, error) {
	leaf, err := ix.own(p, 0)
	if err != nil {
		return 0, err
	}
	b, err := ix.ownVals(p)
	if err != nil {
		return 0, err
	}
	id, at, n := p.steps[0].page, p.steps[0].at, pageCount(leaf)
	old := valAt(b, at)
	chain := ix.chainOf(leaf, n, at)
	ix.m.BeginChange(id)
	removeEntry(leaf, at)
	copy(b[vbHeader+vbEntry*at:], b[vbHeader+vbEntry*(at+1):vbHeader+vbEntry*n])
	ix.m.EndChange(id)
	ix.leftChain(chain)
	return old, ix.merge(p, 0)
}
