package kv

import (
	"unsafe"

	"nvkv/nvmap"
)

// Point reads take no lock and write no memory that others read: they descend
// by page versions, read the record, and validate. Every number that they meet
// may be garbage until then, so it is bounded before it is used. The parent is
// validated after the child's version was taken, at every step, so a garbage
// pointer is never followed.

// outcome is what an optimistic step came to.
type outcome uint8

const (
	hitFound outcome = iota
	hitAbsent
	hitRetry // something changed meanwhile
	hitError
	hitSlow // the value lies in runs: read it in a snapshot
)

// hit is where a lookup ended.
type hit struct {
	leaf    child
	version nvmap.Version
	at      int
	rec     nvmap.Off
	sure    bool // the leaf's key was compared, not only its head
	err     error
}

// prefetch asks for what a search in a page needs, header and heads, and for a
// leaf's record offsets. Dependent misses become one: where the device is not read
// in place, two reads of a disk become one batch.
func (ix *index) prefetch(c child) {
	if !ix.mapped {
		if c.vals != 0 && ix.missing(c) {
			ps := [2]nvmap.PageID{c.page, c.valsOff().Page()}
			ix.m.ReadAhead(ps[:])
		}
		return
	}
	ix.prefetchLines(c, headLines)
}

// prefetchWalk asks for what a walk through a page needs: how many entries it
// has, and a leaf's record offsets.
func (ix *index) prefetchWalk(c child) {
	if ix.mapped {
		ix.prefetchLines(c, 1)
	} else {
		ix.prefetch(c)
	}
}

// prefetchLines asks for the first lines of a page, and for its record offsets.
func (ix *index) prefetchLines(c child, lines int) {
	nvmap.Prefetch(unsafe.Pointer(ix.m.Page(c.page)), lines)
	if c.vals != 0 {
		o := c.valsOff()
		nvmap.Prefetch(unsafe.Pointer(&ix.m.Page(o.Page())[o%nvmap.PageBytes]), valsLines)
	}
}

// Lines of 64 bytes that a page with some 110 keys has of each.
const (
	headLines = 8
	valsLines = 11
)

// lookup descends to key. On hitFound the entry's head is key's; its whole key
// is compared only where two entries have that head.
func (ix *index) lookup(key []byte, h *hit) outcome {
	id := nvmap.PageID(ix.published.Load())
	c := child{page: id}
	v, ok := ix.m.ReadBegin(id)
	if !ok || nvmap.PageID(ix.published.Load()) != id {
		return hitRetry
	}
	for {
		pg := ix.at(c.page)
		if !ix.m.Known(c.page) {
			if err := ix.met(c, pg); err != nil {
				return ix.failed(c, v, err, h)
			}
		}
		if pageLevel(pg) == 0 {
			h.leaf, h.version = c, v
			return ix.lookupLeaf(pg, key, h)
		}
		i, err := ix.childIndex(pg, key)
		if err != nil {
			return ix.failed(c, v, err, h)
		}
		next := childAt(pg, pageCount(pg), i)
		if !ix.within(next) {
			return ix.failed(c, v, &CorruptError{Off: uint64(c.page.Off()), Structure: "index page", Key: key}, h)
		}
		ix.prefetch(next)
		nv, ok := ix.m.ReadBegin(next.page)
		if !ok || !ix.m.ReadValid(c.page, v) {
			return hitRetry
		}
		c, v = next, nv
	}
}

// failed tells damage from a page that changed under the reader.
func (ix *index) failed(c child, v nvmap.Version, err error, h *hit) outcome {
	if !ix.m.ReadValid(c.page, v) {
		return hitRetry
	}
	h.err = err
	return hitError
}

func (ix *index) lookupLeaf(pg *page, key []byte, h *hit) outcome {
	n := min(pageCount(pg), leafFanout)
	pl := pagePrefixLen(pg)
	if len(key) < pl {
		return hitRetry
	}
	hd := headOf(key[pl:])
	i := lowerHead(pg, n, hd)
	if i == n || head(pg, i) != hd {
		return hitAbsent
	}
	h.sure = false
	if i+1 < n && head(pg, i+1) == hd {
		at, equal, err := ix.search(pg, key)
		if err != nil {
			return ix.failed(h.leaf, h.version, err, h)
		}
		if !equal {
			return hitAbsent
		}
		i, h.sure = at, true
	}
	if i >= leafFanout {
		return hitRetry
	}
	h.at = i
	h.rec = valAt(ix.vals(h.leaf.vals), i)
	return hitFound
}

// holds says whether the entry that h found has this very key.
func (ix *index) holds(h *hit, key []byte) (bool, outcome) {
	pg := ix.at(h.leaf.page)
	n := pageCount(pg)
	if h.at >= n || len(key) < pagePrefixLen(pg) {
		return false, hitRetry
	}
	c, err := ix.compare(pg, n, h.at, key, key[pagePrefixLen(pg):])
	if err != nil {
		return false, ix.failed(h.leaf, h.version, err, h)
	}
	return c == 0, hitFound
}
