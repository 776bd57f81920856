package btree

import (
	"errors"
	"unsafe"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// ReadFailed is the value of a panic after a read of a device that is not mapped has failed.
// Package kv recovers it and returns the error.
type ReadFailed struct{ *nvmap.FaultError }

// Unread panics with the error of a read at o.
func Unread(o nvmap.Off, err error) {
	var f *nvmap.FaultError
	if !errors.As(err, &f) {
		f = &nvmap.FaultError{Off: o, Err: err}
	}
	panic(ReadFailed{f})
}

// at returns the newest bytes of a page, for reading, until the section ends. They are the page in
// place or its frame; or a copy, if the device is not mapped and there is no room for a frame.
func (ix *Index) at(id nvmap.PageID) *Page {
	if ix.mapped {
		return ix.m.Page(id)
	}
	return ix.fetched(id)
}

func (ix *Index) fetched(id nvmap.PageID) *Page {
	// A frame that is chosen for eviction from here on stays until the section ends.
	if ok, err := ix.m.Fetch(id); err == nil && ok {
		return ix.m.Page(id)
	}
	pg := new(Page)
	if err := ix.m.Load(id.Off(), pg[:]); err != nil {
		Unread(id.Off(), err)
	}
	return pg
}

// RecordPages appends the pages of the record slot at o, two at most. The rest of a longer record
// is read together when the record is read.
func (ix *Index) RecordPages(dst []nvmap.PageID, o nvmap.Off) []nvmap.PageID {
	n := ix.r.RecordAt(o).Bytes
	if n == 0 {
		return dst
	}
	first, last := o.Page(), (o + nvmap.Off(n) - 1).Page()
	if dst = append(dst, first); last != first {
		dst = append(dst, first+1)
	}
	return dst
}

// childPages appends the pages of a child. They may be any number, so it drops those outside the
// device.
func (ix *Index) childPages(dst []nvmap.PageID, c Child) []nvmap.PageID {
	if !ix.within(c) {
		return dst
	}
	if dst = append(dst, c.Page); c.Vals != 0 {
		dst = append(dst, c.ValsOff().Page())
	}
	return dst
}

// AskChildren reads children of an inner page together, if the device is not mapped: at most most
// of them, from entry at on, in steps of 1 or -1.
func (ix *Index) AskChildren(pg *Page, at, step, most int) {
	if ix.mapped {
		return
	}
	n := Count(pg)
	ps := make([]nvmap.PageID, 0, 2*ChildrenMost)
	for ; most > 0 && at >= 0 && at < n; at += step {
		ps = ix.childPages(ps, ChildAt(pg, n, at))
		most--
	}
	ix.m.ReadAhead(ps)
}

// ChildrenMost is how many children are read together. With the value blocks of leaves these are
// twice as many pages, about as many as a disk reads at once.
const ChildrenMost = 32

// missing says whether a child must be read from a device that is not mapped.
func (ix *Index) missing(c Child) bool {
	return ix.m.Where(c.Page) == nvmap.OnDevice || c.Vals != 0 && ix.m.Where(c.ValsOff().Page()) == nvmap.OnDevice
}

// AskRecord prefetches the first lines of the record at o, if it is mapped or in a frame.
func (ix *Index) AskRecord(o nvmap.Off) {
	if b := ix.m.View(o, record.HeaderBytes); b != nil {
		nvmap.Prefetch(unsafe.Pointer(unsafe.SliceData(b)), recordLines)
	}
}
