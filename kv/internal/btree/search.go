package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"

	"nvkv/nvmap"
)

// A search in a page is a search among its heads, and among the cells of those entries that
// have the key's head. Mostly that is one entry. Pages at the ends of the tree have no
// prefix, and a root is at both ends: there all heads may be alike, and every get and put
// comes by. So cells are compared as heads are, by their first eight bytes as a number, and
// byte by byte only where these are alike too.

// headOf returns the head of a key's rest: its first four bytes, zeros behind.
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

// lowerHead returns the first entry whose head is at least h. n <= maxCount. The
// loop has no branch that depends on what it reads: a wrong guess would cost
// more than all of a step.
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

// narrow returns which of the entries [lo, hi) of n, whose heads are alike, are neither below
// nor above a key by the first eight bytes behind the head, which are want as a number, zeros
// behind. It ends where the middle one has the same bytes, or is a long key, or lies at one of
// the page's ends. n <= maxCount, so that the slots lie inside the page.
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

// Search returns the first entry of pg whose key is not below key, and whether
// it is equal.
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
	for {
		if hi-lo > 1 {
			lo, hi = narrow(pg, n, lo, hi, want)
		}
		if lo == hi {
			return lo, false, nil
		}
		mid := int(uint(lo+hi) >> 1)
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
}

// compare compares entry i of pg with key, whose rest behind the prefix is rest and
// has the entry's head.
func (ix *Index) compare(pg *Page, n, i int, key, rest []byte) (int, error) {
	off, _, long := cell(pg, n, i)
	if !long {
		return compareCell(pg, n, i, rest), nil
	}
	k, err := ix.longKey(pg[off : off+longCell])
	if err != nil {
		return 0, err
	}
	return bytes.Compare(k, key), nil
}

// childIndex returns the entry of an inner page below which key belongs.
func (ix *Index) childIndex(pg *Page, key []byte) (int, error) {
	i, equal, err := ix.Search(pg, key)
	if !equal && i > 0 {
		i--
	}
	return i, err
}

// compareCell compares entry i of n, which has a cell of its own, with a rest that
// has the same head: "a" and "a\x00" do too, and differ in length.
func compareCell(p *Page, n, i int, rest []byte) int {
	off, length, _ := cell(p, n, i)
	if c := bytes.Compare(p[off:off+length], rest[min(headBytes, len(rest)):]); c != 0 {
		return c
	}
	return cmp.Compare(restLen(p, n, i), len(rest))
}
