package btree

import (
	"encoding/binary"

	"nvkv/kv/internal/record"
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

// OverflowPages returns how many pages a key takes, 0 for a short one.
func OverflowPages(keyLen int) int {
	if keyLen <= maxInline {
		return 0
	}
	return (keyLen + ovBytes - 1) / ovBytes
}

// chain names the overflow pages of a key: the first of them, the low byte of their
// birth, and how long the key is. They are born together. The zero chain is none.
type chain struct {
	first nvmap.PageID
	born  byte
	bytes int
}

// cell returns the long cell of the key with this chain.
func (c chain) cell() []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(c.bytes)|uint64(c.first)<<16|uint64(c.born)<<56)
}

// readCell returns the chain that a long cell says.
func readCell(b []byte) chain {
	w := binary.LittleEndian.Uint64(b)
	return chain{nvmap.PageID(w >> 16 & (1<<40 - 1)), byte(w >> 56), int(w & 0xffff)}
}

// longKeyLen returns how long the key of the long cell at off is.
func longKeyLen(pg *Page, off int) int { return readCell(pg[off:]).bytes }

// chainOf returns the chain of entry i, if it has one.
func chainOf(pg *Page, n, i int) (c chain) {
	if off, _, long := cell(pg, n, i); long {
		c = readCell(pg[off:])
	}
	return c
}

// writeChain stores a key in pages of its own, the last first.
func (ix *Index) writeChain(key []byte) (chain, error) {
	c := chain{born: byte(ix.epoch), bytes: len(key)}
	for n := OverflowPages(len(key)) - 1; n >= 0; n-- {
		part := key[n*ovBytes : min(len(key), (n+1)*ovBytes)]
		id, pg, err := ix.bornPage(0, nil)
		if err != nil {
			return chain{}, err
		}
		pg[pgKind] = pageOverflow
		put16(pg, pgCount, len(part))
		binary.LittleEndian.PutUint64(pg[ovNext:], uint64(c.first))
		copy(pg[pgHeader:], part)
		c.first = id
	}
	return c, nil
}

// longKey returns the key that a long cell names. What it returns from a cell
// that is being changed means nothing, but it ends.
func (ix *Index) longKey(b []byte) ([]byte, error) {
	c := readCell(b)
	if c.first == 0 { // only in a page that is being changed
		return nil, &record.CorruptError{Structure: "overflow page"}
	}
	key := make([]byte, 0, c.bytes)
	err := ix.eachOverflow(c, func(_ nvmap.PageID, pg *Page) error {
		key = append(key, pg[pgHeader:pgHeader+min(u16(pg, pgCount), ovBytes)]...)
		return nil
	})
	return key, err
}

// eachOverflow calls fn for the pages of a chain: as many as its key fills, each full
// but the last one, which names no other. So it ends, and meets no page twice.
func (ix *Index) eachOverflow(c chain, fn func(nvmap.PageID, *Page) error) error {
	birth, left := uint64(0), c.bytes
	for id := c.first; id != 0; {
		pg, err := ix.Load(chainAt(id))
		if err != nil {
			return err
		}
		if id == c.first {
			birth = Birth(pg)
		}
		n, next := min(left, ovBytes), nvmap.PageID(binary.LittleEndian.Uint64(pg[ovNext:]))
		left -= n
		if n == 0 || u16(pg, pgCount) != n || (left == 0) != (next == 0) || byte(birth) != c.born || Birth(pg) != birth {
			return &record.CorruptError{Off: uint64(id.Off()), Structure: "overflow page"}
		}
		if err := fn(id, pg); err != nil {
			return err
		}
		id = next
	}
	return nil
}

// leftChain says that a chain is no part of the tree any more. It leaves all of one in
// which something is wrong, which stays allocated: leaked, not reused.
func (ix *Index) leftChain(c chain) {
	pages, births := make([]nvmap.PageID, 0, OverflowPages(c.bytes)), uint64(0)
	err := ix.eachOverflow(c, func(id nvmap.PageID, pg *Page) error {
		pages, births = append(pages, id), Birth(pg)
		return nil
	})
	if err != nil {
		return
	}
	for _, id := range pages {
		ix.left(id, births)
	}
}
