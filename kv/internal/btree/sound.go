package btree

import (
	"bytes"
	"encoding/binary"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A page is verified when it is met, and trusted afterwards (see Index.met). So everything that can
// be checked in the page alone is checked here, once: a page with a right checksum may still hold
// any bytes if somebody made it. What a page says about others is checked when those are met: the
// level of a child in Child.is, its birth in Index.verify, the length of a chain in eachOverflow.

// pageSound says whether page id is well formed by docs/format.md, as far as its own bytes show.
// Then no change of the page writes outside it, and no walk through it meets a key twice, except
// for long keys, of which only the heads are here. If the page is being changed, the result means
// nothing.
func pageSound(p *Page, id nvmap.PageID) bool {
	if p[pgKind] == pageOverflow {
		n := u16(p, pgCount)
		return p[pgLevel] == 0 && n > 0 && n <= ovBytes && nvmap.PageID(binary.LittleEndian.Uint64(p[ovNext:])) != id
	}
	n, top, prefix := u16(p, pgCount), u16(p, pgHeapTop), u16(p, pgPrefix)
	leaf := p[pgKind] == pageLeaf
	if !leaf && p[pgKind] != pageInner || leaf != (Level(p) == 0) || Level(p) >= MaxHeight {
		return false
	}
	if n > maxCount || leaf && n > LeafFanout || !leaf && n == 0 || prefix > maxPrefix || arraysEnd(p, n) > top {
		return false
	}
	return cellsSound(p, n) && (leaf || childrenSound(p, n, id))
}

// cellsSound says whether the keys of a page ascend, and whether cells and garbage together fill
// the space between heap top and prefix.
func cellsSound(p *Page, n int) bool {
	top, end, sum := u16(p, pgHeapTop), len(p)-pagePrefixLen(p), u16(p, pgGarbage)
	for i := range n {
		at, length := slotsAt(n)+slotWidth*i, restLen(p, n, i)
		off, size := u16(p, at), cellBytes(length)
		if length == longLen {
			size = longCell
		} else if length > maxInline-pagePrefixLen(p) {
			return false
		}
		if size > 0 && off < top || off > end-size {
			return false
		}
		if length < headBytes && head(p, i)<<(8*length) != 0 || i > 0 && !ascends(p, n, i) {
			return false
		}
		if length == longLen {
			if c := readCell(p[off:]); c.bytes <= maxInline || c.first == 0 {
				return false
			}
		}
		sum += size
	}
	return top+sum == end
}

// ascends says whether the key of entry i is greater than the one before. For long keys with the
// same head it cannot tell, and returns true.
func ascends(p *Page, n, i int) bool {
	a, b := head(p, i-1), head(p, i)
	if a != b {
		return a < b
	}
	x, xn, long := cell(p, n, i-1)
	y, yn, longToo := cell(p, n, i)
	if long || longToo {
		return true
	}
	c := bytes.Compare(p[x:x+xn], p[y:y+yn])
	return c < 0 || c == 0 && restLen(p, n, i-1) < restLen(p, n, i)
}

// childrenSound says whether an inner page names possible children, and whether entry 0 has an
// empty key.
func childrenSound(p *Page, n int, id nvmap.PageID) bool {
	for i := range n {
		c := ChildAt(p, n, i)
		if c.Page == 0 || c.Page == id || (c.level == 0) != (c.Vals != 0) {
			return false
		}
	}
	return restLen(p, n, 0) == 0
}

// Visits bounds a walk: a tree cannot have more pages than the device. If pages had several
// parents, the number of paths could grow exponentially.
type Visits int64

func (ix *Index) Visits() Visits { return Visits(ix.m.End() / nvmap.PageBytes) }

// One counts a page, and returns an error if the bound is exceeded.
func (v *Visits) One(c Child) error {
	if *v--; *v < 0 {
		return &record.CorruptError{Off: uint64(c.Page.Off()), Structure: "index page with several parents"}
	}
	return nil
}
