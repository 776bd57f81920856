package btree

import (
	"bytes"
	"unsafe"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// On a mapped device point reads take no lock. They write no shared memory but the counter of their
// section and, at the first visit to a page, bits of its state word. They descend by page versions,
// read the record, and validate. Until then every number that they read may be garbage, so it is
// bounded before it is used. At every step the parent is validated after the child's version was
// taken, so a garbage pointer is never followed.

// Outcome is the result of an optimistic step.
type Outcome uint8

const (
	Found Outcome = iota
	Absent
	Retry // a page changed meanwhile: start again
	Failed
	Slow // the value lies in runs: read it in a snapshot
)

// Hit is the entry that a lookup found.
type Hit struct {
	leaf    Child
	version nvmap.Version
	at      int
	Rec     nvmap.Off
	Sure    bool // the whole key of the entry was compared, not only its head
	Err     error
}

// prefetch requests the parts of a page that a search needs, header and heads, and the references
// of a leaf. Two dependent misses become one wait. Where the device is not mapped, two reads become
// one batch.
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

// prefetchWalk requests the parts of a page that a walk needs: the header, and the references of a
// leaf.
func (ix *Index) prefetchWalk(c Child) {
	if ix.mapped {
		ix.prefetchLines(c, 1)
	} else {
		ix.prefetch(c)
	}
}

// prefetchSeek prefetches the parts of a child that a search needs, if the device is mapped.
func (ix *Index) prefetchSeek(pg *Page, at int) {
	if !ix.mapped {
		return
	}
	if c := ChildAt(pg, Count(pg), at); ix.within(c) {
		ix.prefetchLines(c, headLines)
	}
}

// prefetchLines requests the first lines of a page, and the references of a leaf.
func (ix *Index) prefetchLines(c Child, lines int) {
	nvmap.Prefetch(unsafe.Pointer(ix.m.Page(c.Page)), lines)
	if c.Vals != 0 {
		o := c.ValsOff()
		nvmap.Prefetch(unsafe.Pointer(&ix.m.Page(o.Page())[o%nvmap.PageBytes]), valsLines)
	}
}

// ask prefetches the cache line of a byte.
func ask(b *byte) { nvmap.Prefetch(unsafe.Pointer(b), 1) }

// Cache lines of 64 bytes that the heads and the references of a page with some 110 keys take.
const (
	headLines = 8
	valsLines = 11
)

// Lookup descends to key. On Found the entry has the head of key. The whole key was compared only
// if two entries have that head: see Hit.Sure.
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
		// Levels descend one by one, so the loop ends whatever the pages hold.
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

// failed returns Retry if the page has changed under the reader; else err is damage and the outcome
// is Failed.
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

// LeafPage returns the leaf of h.
func (h *Hit) LeafPage() nvmap.PageID { return h.leaf.Page }

// Stands says whether the leaf of h has not changed since the lookup.
func (ix *Index) Stands(h *Hit) bool { return ix.m.ReadValid(h.leaf.Page, h.version) }

// Holds says whether the entry of h has exactly this key.
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
