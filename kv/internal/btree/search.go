package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"

	"nvkv/nvmap"
)

// A search in a page searches the heads, and then the cells of the entries that have the key's
// head, usually one entry. Pages at the ends of the tree have no prefix, and a root is at both
// ends. There all heads may be equal, and every get and put passes the root. So cells are compared
// like heads, by their first eight bytes as a number, and byte by byte only if these are equal too.

// headOf returns the head of a rest: its first four bytes, padded with zeros.
func headOf(rest []byte) uint32 {
	if len(rest) >= 4 {
		return binary.BigEndian.Uint32(rest)
	}
	var h uint32
	for i, c := range rest {
		h |= uint32(c) << (24 - 8*i)
	}
	return h
}

// lowerHead returns the first entry whose head is at least h. n <= maxCount. The loop has no branch
// that depends on the heads: a wrong prediction would cost more than a whole step.
func lowerHead(p *Page, n int, h uint32) int {
	lo := 0
	for n > 1 {
		half := int(uint(n) >> 1)
		below := (uint64(head(p, lo+half-1)) - uint64(h)) >> 63 // 1 or 0
		lo += half & -int(below)
		n -= half
	}
	if n == 1 && head(p, lo) < h {
		lo++
	}
	return lo
}

// narrow narrows the range [lo, hi) of n entries with equal heads. It removes entries that are
// below or above a key by the first eight bytes behind the head; want is these bytes as a number,
// padded with zeros. It stops if the middle entry has the same bytes, is a long key, or lies at an
// end of the page. n <= maxCount, so the slots lie inside the page.
func narrow(p *Page, n, lo, hi int, want uint64) (int, int) {
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		off, length := slot(p, n, mid)
		if off > nvmap.PageBytes-8 || length-(headBytes+1) > maxInline {
			break
		}
		cell := lead(p, off)
		cell &= ^uint64(0) << (8 * (headBytes + 8 - min(length, headBytes+8)) & 63)
		if cell == want {
			break
		}
		_, b := bits.Sub64(cell, want, 0) // as in lowerHead, no branch depends on what is read
		below := -int(b)
		lo += (mid + 1 - lo) & below
		hi += (mid - hi) &^ below
	}
	return lo, hi
}

// Search returns the first entry of pg whose key is not below key, and whether it is equal.
func (ix *Index) Search(pg *Page, key []byte) (int, bool, error) {
	n := Count(pg)
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
		if hi = n; head(pg, n-1) != h {
			hi = lowerHead(pg, n, h+1)
		}
	}
	want := LeadOf(rest[min(headBytes, len(rest)):])
	var near neighbours
	for {
		if hi-lo > 1 {
			lo, hi = narrow(pg, n, lo, hi, want)
		}
		if lo >= hi { // above only in a page that is being changed
			return lo, false, nil
		}
		mid := int(uint(lo+hi) >> 1)
		var c int
		if _, length := slot(pg, n, mid); length>>8 != longMark {
			c = compareCell(pg, n, mid, rest)
		} else {
			var err error
			if c, err = ix.compareNear(pg, n, mid, key, &near); err != nil {
				return 0, false, err
			}
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
}

// compare compares the key of entry i of pg with key. Both have the same head. rest is the part of
// key behind the prefix of pg.
func (ix *Index) compare(pg *Page, n, i int, key, rest []byte) (int, error) {
	if _, length := slot(pg, n, i); length>>8 != longMark {
		return compareCell(pg, n, i, rest), nil
	}
	return ix.compareLong(pg, n, i, key)
}

// compareLong is compare for a long key.
func (ix *Index) compareLong(pg *Page, n, i int, key []byte) (int, error) {
	off, _, _ := cell(pg, n, i)
	c, _, err := ix.compareChain(readCell(pg[off:]), key, 0)
	return c, err
}

// neighbours says how many bytes a key shares with long keys below it and above it that a search in
// a page has met. The key shares the lesser number with all entries between these two.
type neighbours struct{ below, above int }

// compareNear is compareLong in a search. It skips the bytes that are known to be equal.
func (ix *Index) compareNear(pg *Page, n, i int, key []byte, near *neighbours) (int, error) {
	off, _, _ := cell(pg, n, i)
	c, same, err := ix.compareChain(readCell(pg[off:]), key, min(near.below, near.above))
	if c < 0 {
		near.below = same
	} else {
		near.above = same
	}
	return c, err
}

// childIndex returns the entry of an inner page to whose child key belongs.
func (ix *Index) childIndex(pg *Page, key []byte) (int, error) {
	i, equal, err := ix.Search(pg, key)
	if !equal && i > 0 {
		i--
	}
	return i, err
}

// compareCell compares entry i of n, whose cell is not a long one, with a rest that has the same
// head. The lengths are compared last: "a" and "a\x00" have the same head and no further bytes.
func compareCell(p *Page, n, i int, rest []byte) int {
	o, l := slot(p, n, i)
	off, length := int(o), int(l)
	end := off + cellBytes(length)
	if end > len(p) {
		off, end = 0, 0 // only in a page that is being changed
	}
	if c := bytes.Compare(p[off:end], rest[min(headBytes, len(rest)):]); c != 0 {
		return c
	}
	return cmp.Compare(length, len(rest))
}
