package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A key over maxInline bytes lies in a chain of overflow pages. A chain never changes, and it
// leaves the tree with the entry that names it. It holds the key itself. A reference to the record
// would not do, because a recovery compares keys at a time when that record's slot may hold another
// record. Format: docs/format.md, "Overflow page".
const (
	pageOverflow = 3
	ovNext       = 16 // 8: number of the next page, 0 in the last
	ovBytes      = nvmap.PageBytes - pgHeader
)

// OverflowPages returns how many overflow pages a key of this length takes. 0: it is short.
func OverflowPages(keyLen int) int {
	if keyLen <= maxInline {
		return 0
	}
	return (keyLen + ovBytes - 1) / ovBytes
}

// chain names the overflow pages of a key: the first page, the low byte of their birth, which they
// share, and the length of the key. The zero value means no chain.
type chain struct {
	first nvmap.PageID
	born  byte
	bytes int
}

// cell returns the long cell that names the chain.
func (c chain) cell() []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(c.bytes)|uint64(c.first)<<16|uint64(c.born)<<56)
}

// readCell returns the chain that a long cell names.
func readCell(b []byte) chain {
	w := binary.LittleEndian.Uint64(b)
	return chain{nvmap.PageID(w >> 16 & (1<<40 - 1)), byte(w >> 56), int(w & 0xffff)}
}

// longKeyLen returns the length of the key whose long cell is at off.
func longKeyLen(pg *Page, off int) int { return readCell(pg[off:]).bytes }

// chainOf returns the chain of entry i, or the zero value.
func chainOf(pg *Page, n, i int) (c chain) {
	if off, _, long := cell(pg, n, i); long {
		c = readCell(pg[off:])
	}
	return c
}

// writeChain stores a key in new overflow pages, the last one first.
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

// longKey returns the key that a long cell names. If the page of the cell is being changed, the
// result means nothing; the call still ends.
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

// longHead returns the head of a long key behind its first skip bytes, maxPrefix at most. ok is
// false if the key is not that long.
func (ix *Index) longHead(b []byte, skip int) (h uint32, ok bool, err error) {
	c := readCell(b)
	if c.bytes < skip {
		return 0, false, nil
	}
	err = ix.eachOverflow(c, func(_ nvmap.PageID, pg *Page) error {
		h = headOf(pg[pgHeader+skip : pgHeader+min(c.bytes, ovBytes)])
		return errEnough
	})
	if err == errEnough {
		err = nil
	}
	return h, true, err
}

// errEnough ends a walk along a chain.
var errEnough = errors.New("enough of a chain is known")

// compareChain compares the key in a chain with another key. The first bytes of both, as many as
// equal says, are known to be the same. It returns how many bytes are the same, and reads no page
// behind those that differ.
func (ix *Index) compareChain(c chain, key []byte, equal int) (order, same int, err error) {
	if c.first == 0 { // only in a page that is being changed
		return 0, 0, &record.CorruptError{Structure: "overflow page"}
	}
	order, same = cmp.Compare(c.bytes, len(key)), min(c.bytes, len(key))
	at := 0 // bytes of the key in the pages before
	err = ix.eachOverflow(c, func(_ nvmap.PageID, pg *Page) error {
		part := pg[pgHeader : pgHeader+min(u16(pg, pgCount), ovBytes)]
		from := max(equal-at, 0)
		if from < len(part) && at+from < len(key) {
			x, y := part[from:], key[at+from:]
			y = y[:min(len(x), len(y))]
			if x = x[:len(y)]; !bytes.Equal(x, y) {
				n := CommonPrefix(x, y)
				order, same = cmp.Compare(x[n], y[n]), at+from+n
				return errEnough
			}
		}
		if at += len(part); at >= len(key) {
			return errEnough
		}
		return nil
	})
	if err == errEnough {
		err = nil
	}
	return order, same, err
}

// eachOverflow calls fn for the pages of a chain. There must be exactly as many as the key fills,
// each full except the last, and the last names no other page. So the walk ends and meets no page
// twice.
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

// leftChain records that a chain is no longer part of the tree. If a page of the chain is damaged,
// all of them stay allocated: leaked, but not reused.
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
