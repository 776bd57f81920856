package kv

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// A key over maxInline bytes lies in a chain of overflow pages. A chain never
// changes; it leaves the tree with the entry that names it. It holds the key
// itself and not a reference to the record, whose slot may hold another record
// when a replay compares. Format: docs/format.md, "Overflow page".
const (
	pageOverflow = 3
	ovNext       = 16 // 8: the next page, 0 at the end
	ovBytes      = nvmap.PageBytes - pgHeader
)

// overflowPages returns how many pages a key takes, 0 for a short one.
func overflowPages(keyLen int) int {
	if keyLen <= maxInline {
		return 0
	}
	return (keyLen + ovBytes - 1) / ovBytes
}

// writeChain stores a key in pages of its own, the last first.
func (ix *index) writeChain(key []byte) (nvmap.PageID, error) {
	next := nvmap.PageID(0)
	for n := overflowPages(len(key)) - 1; n >= 0; n-- {
		part := key[n*ovBytes : min(len(key), (n+1)*ovBytes)]
		id, pg, err := ix.bornPage(0, nil)
		if err != nil {
			return 0, err
		}
		pg[pgKind] = pageOverflow
		put16(pg, pgCount, len(part))
		binary.LittleEndian.PutUint64(pg[ovNext:], uint64(next))
		copy(pg[pgHeader:], part)
		next = id
	}
	return next, nil
}

// longKey returns the key that a long cell names. What it returns from a cell
// that is being changed means nothing, but it ends.
func (ix *index) longKey(c []byte) ([]byte, error) {
	w := binary.LittleEndian.Uint64(c)
	length, id := int(w&0xffff), nvmap.PageID(w>>16)
	key := make([]byte, 0, length)
	for len(key) < length {
		pg, err := ix.load(child{page: id})
		if err != nil {
			return nil, err
		}
		n := min(u16(pg, pgCount), ovBytes, length-len(key))
		if pg[pgKind] != pageOverflow || n == 0 {
			return nil, &CorruptError{Off: uint64(id.Off()), Structure: "overflow page"}
		}
		key = append(key, pg[pgHeader:pgHeader+n]...)
		id = nvmap.PageID(binary.LittleEndian.Uint64(pg[ovNext:]))
	}
	return key, nil
}

// chainOf returns the first overflow page of entry i, or 0.
func (ix *index) chainOf(pg *page, n, i int) nvmap.PageID {
	off, _, long := cell(pg, n, i)
	if !long {
		return 0
	}
	return nvmap.PageID(binary.LittleEndian.Uint64(pg[off:]) >> 16)
}

// eachOverflow calls fn for the pages of a chain, with their births.
func (ix *index) eachOverflow(id nvmap.PageID, fn func(nvmap.PageID, *page) error) error {
	for id != 0 {
		pg, err := ix.load(child{page: id})
		if err != nil {
			return err
		}
		next := nvmap.PageID(binary.LittleEndian.Uint64(pg[ovNext:]))
		if err := fn(id, pg); err != nil {
			return err
		}
		id = next
	}
	return nil
}

// leftChain says that a chain is no part of the tree any more.
func (ix *index) leftChain(id nvmap.PageID) {
	// A page of it that cannot be read stays allocated: leaked, not reused.
	_ = ix.eachOverflow(id, func(id nvmap.PageID, pg *page) error {
		ix.left(id, pageBirth(pg))
		return nil
	})
}
