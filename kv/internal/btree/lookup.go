package btree

import (
	"bytes"
	"unsafe"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Point reads take no lock and write no memory that others read: they descend
// by page versions, read the record, and validate. Every number that they meet
// may be garbage until then, so it is bounded before it is used. The parent is
// validated after the child's version was taken, at every step, so a garbage
// pointer is never followed.

// Outcome is what an optimistic step came to.
type Outcome uint8

const (
	Found Outcome = iota
	Absent
	Retry // something changed meanwhile
	Failed
	Slow // the value lies in runs: read it in a snapshot
)

// Hit is where a lookup ended.
type Hit struct {
	leaf    Child
	version nvmap.Version
	at      int
	Rec     nvmap.Off
	Sure    bool // the leaf's key was compared, not only its head
	Err     error
}

// prefetch asks for what a search in a page needs, header and heads, and for a
// leaf's record offsets. Dependent misses become one: where the device is not read
// in place, two reads of a disk become one batch.
func (ix *Index) prefetch(c Child) {
	if !ix.mapped {
		if c.Vals != 0 && ix.missing(c) {
			ps := [2]nvmap.PageID{c.Page, c.ValsOff().Page()}
			ix.m.ReadAhead(ps[:])
		}
		return
	}
	ix.prefetchLines(c, headLines)
}

// prefetchWalk asks for what a walk through a page needs: how many entries it
// has, and a leaf's record offsets.
func (ix *Index) prefetchWalk(c Child) {
	if ix.mapped {
		ix.prefetchLines(c, 1)
	} else {
		ix.prefetch(c)
	}
}

// prefetchSeek asks for what a search in a child of pg needs, where the device is mapped.
func (ix *Index) prefetchSeek(pg *Page, at int) {
	if !ix.mapped {
		return
	}
	if c := ChildAt(pg, Count(pg), at); ix.within(c) {
		ix.prefetchLines(c, headLines)
	}
}

// prefetchLines asks for the first lines of a page, and for its record offsets.
func (ix *Index) prefetchLines(c Child, lines int) {
	nvmap.Prefetch(unsafe.Pointer(ix.m.Page(c.Page)), lines)
	if c.Vals != 0 {
		o := c.ValsOff()
		nvmap.Prefetch(unsafe.Pointer(&ix.m.Page(o.Page())[o%nvmap.PageBytes]), valsLines)
	}
}

// ask asks for the line of a byte.
func ask(b *byte) { nvmap.Prefetch(unsafe.Pointer(b), 1) }

// Lines of 64 bytes that a page with some 110 keys has of each.
const (
	headLines = 8
	valsLines = 11
)

// Lookup descends to key. On Found the entry's head is key's; its whole key
// is compared only where two entries have that head.
func (ix *Index) Lookup(key []byte, h *Hit) Outcome {
	id := nvmap.PageID(ix.published.Load())
	c := RootAt(id)
	v, ok := ix.m.ReadBegin(id)
	if !ok || nvmap.PageID(ix.published.Load()) != id {
		return Retry
	}
	for {
		pg := ix.at(c.Page)
		if !ix.m.Known(c.Page) {
			if err := ix.met(c, pg); err != nil {
				return ix.failed(c, v, err, h)
			}
		}
		// Levels come down one by one, so that the way ends whatever the pages hold.
		if !c.is(pg) {
			return ix.failed(c, v, c.wrong(), h)
		}
		if c.level == 0 {
			h.leaf, h.version = c, v
			return ix.lookupLeaf(pg, key, h)
		}
		i, err := ix.childIndex(pg, key)
		if err != nil {
			return ix.failed(c, v, err, h)
		}
		next := childIn(pg, Count(pg), i)
		next.above = Birth(pg)
		if !ix.within(next) {
			return ix.failed(c, v, &record.CorruptError{Off: uint64(c.Page.Off()), Structure: "index page", Key: bytes.Clone(key)}, h)
		}
		ix.prefetch(next)
		nv, ok := ix.m.ReadBegin(next.Page)
		if !ok || !ix.m.ReadValid(c.Page, v) {
			return Retry
		}
		c, v = next, nv
	}
}

// failed tells damage from a page that changed under the reader.
func (ix *Index) failed(c Child, v nvmap.Version, err error, h *Hit) Outcome {
	if !ix.m.ReadValid(c.Page, v) {
		return Retry
	}
	h.Err = err
	return Failed
}

func (ix *Index) lookupLeaf(pg *Page, key []byte, h *Hit) Outcome {
	n := min(Count(pg), LeafFanout)
	pl := pagePrefixLen(pg)
	if len(key) < pl {
		return Retry
	}
	hd := headOf(key[pl:])
	i := lowerHead(pg, n, hd)
	if i == n || head(pg, i) != hd {
		return Absent
	}
	h.Sure = false
	if i+1 < n && head(pg, i+1) == hd {
		at, equal, err := ix.Search(pg, key)
		if err != nil {
			return ix.failed(h.leaf, h.version, err, h)
		}
		if !equal {
			return Absent
		}
		i, h.Sure = at, true
	}
	if i >= LeafFanout {
		return Retry
	}
	h.at = i
	h.Rec = ValAt(ix.Vals(h.leaf.Vals), i)
	return Found
}

// LeafPage returns the leaf that h found.
func (h *Hit) LeafPage() nvmap.PageID { return h.leaf.Page }

// Stands says whether the leaf that h found has not changed since.
func (ix *Index) Stands(h *Hit) bool { return ix.m.ReadValid(h.leaf.Page, h.version) }

// Holds says whether the entry that h found has this very key.
func (ix *Index) Holds(h *Hit, key []byte) (bool, Outcome) {
	pg := ix.at(h.leaf.Page)
	n := Count(pg)
	if h.at >= n || len(key) < pagePrefixLen(pg) {
		return false, Retry
	}
	c, err := ix.compare(pg, n, h.at, key, key[pagePrefixLen(pg):])
	if err != nil {
		return false, ix.failed(h.leaf, h.version, err, h)
	}
	return c == 0, Found
}
