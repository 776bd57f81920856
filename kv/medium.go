package kv

import (
	"errors"
	"unsafe"

	"nvkv/nvmap"
)

// Where the CPU maps the device, index pages and records are read in place.
// Where it does not, this file stands between: bytes come as copies, and a read
// that fails panics with what guarded turns into an error, as a fault in a
// mapping does. So the code above looks the same on both.

// readFailed is the panic of a device that is not mapped and cannot be read.
type readFailed struct{ *nvmap.FaultError }

// unread panics with the failure of a read at o.
func unread(o nvmap.Off, err error) {
	var f *nvmap.FaultError
	if !errors.As(err, &f) {
		f = &nvmap.FaultError{Off: o, Err: err}
	}
	panic(readFailed{f})
}

// fault returns the medium's error if that is what recover returned, and panics
// with r again if it is not.
func (db *DB) fault(r any, op string) *nvmap.FaultError {
	if f, ok := r.(readFailed); ok {
		return &nvmap.FaultError{Off: f.Off, Op: op, Err: f.Err}
	}
	return db.m.Faulted(r, op)
}

// tryBytesAt is bytesAt, with an error where the medium cannot be read and is not
// mapped.
func (db *DB) tryBytesAt(o nvmap.Off, n int) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = db.fault(r, "read")
		}
	}()
	return db.bytesAt(o, n), nil
}

// bytesAt returns the bytes [o, o+n) of the medium, nil where they lie outside:
// a view of it where the device is mapped, good until the device is closed, and
// a copy where it is not.
func (db *DB) bytesAt(o nvmap.Off, n int) []byte {
	if db.ix.mapped {
		return db.m.View(o, n)
	}
	size := db.m.Size()
	if n < 0 || int64(n) > size || uint64(o) > uint64(size-int64(n)) {
		return nil
	}
	b := make([]byte, n)
	if err := db.m.Load(o, b); err != nil {
		unread(o, err)
	}
	return b
}

// at returns the newest bytes of a page, which must not be written, until the
// section ends: in place, or a copy where the device is not mapped and there is
// no room for a frame.
func (ix *index) at(id nvmap.PageID) *page {
	if ix.mapped {
		return ix.m.Page(id)
	}
	return ix.fetched(id)
}

func (ix *index) fetched(id nvmap.PageID) *page {
	// A frame that is turned away from here on stays until the section ends.
	if ok, err := ix.m.Fetch(id); err == nil && ok {
		return ix.m.Page(id)
	}
	pg := new(page)
	if err := ix.m.Load(id.Off(), pg[:]); err != nil {
		unread(id.Off(), err)
	}
	return pg
}

// recordPages appends the pages of the record slot at o, one or two of them: a
// longer record is read together when it is read.
func (ix *index) recordPages(dst []nvmap.PageID, o nvmap.Off) []nvmap.PageID {
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

// childPages appends the pages of a child, which may name anything.
func (ix *index) childPages(dst []nvmap.PageID, c child) []nvmap.PageID {
	if !ix.within(c) {
		return dst
	}
	if dst = append(dst, c.page); c.vals != 0 {
		dst = append(dst, c.valsOff().Page())
	}
	return dst
}

// askChildren has children of an inner page read together where the device is not
// read in place: those from entry at on, in steps of 1 or -1.
func (ix *index) askChildren(pg *page, at, step, most int) {
	if ix.mapped {
		return
	}
	n := pageCount(pg)
	ps := make([]nvmap.PageID, 0, 2*childrenMost)
	for ; most > 0 && at >= 0 && at < n; at += step {
		ps = ix.childPages(ps, childAt(pg, n, at))
		most--
	}
	ix.m.ReadAhead(ps)
}

// childrenMost is how many children are read together: with the value blocks of
// leaves twice as many pages, which is what a disk has on its way at once.
const childrenMost = 32

// missing says whether a child has to be read from a device that is not mapped.
func (ix *index) missing(c child) bool {
	return ix.m.Where(c.page) == nvmap.OnDevice || c.vals != 0 && ix.m.Where(c.valsOff().Page()) == nvmap.OnDevice
}

// askRecord asks for the first lines of the record at o, if it is in reach.
func (ix *index) askRecord(o nvmap.Off) {
	if b := ix.m.View(o, recHeader); b != nil {
		nvmap.Prefetch(unsafe.Pointer(unsafe.SliceData(b)), recordLines)
	}
}
