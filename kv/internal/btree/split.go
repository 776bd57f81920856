package btree

import (
	"bytes"
	"fmt"
)

// splitPoint returns the entry that becomes the first of the right page: the middle by bytes, or
// nine tenths of the bytes if keys are appended in order. A leaf whose value block is full is
// divided by the number of entries.
func splitPoint(pg *Page, at int) int {
	n := Count(pg)
	appended := at >= n-1
	if Level(pg) == 0 && n == LeafFanout {
		if appended {
			return n - 1 - n/10
		}
		return n / 2
	}
	total := usedBytes(pg) - pagePrefixLen(pg)
	target, last := total/2, n-1
	if appended {
		target, last = total/10*9, at-1 // the new key goes into the right page
	}
	sum, mid := 0, 0
	for ; mid < n-1; mid++ {
		_, length, _ := cell(pg, n, mid)
		size := entryBytes(pg, length)
		if sum += size; sum < target {
			continue
		}
		if !appended && sum-target < size/2 { // the target is nearer to the end of this entry
			mid++
		}
		break
	}
	return max(min(mid, last), 1)
}

// split splits the page at a level of p, or one above it if the parent has no room for another
// separator. p is not valid afterwards: call Find again.
func (ix *Index) split(p *Path, level int) error {
	pg := ix.at(p.steps[level].page)
	n := Count(pg)
	mid := splitPoint(pg, p.steps[level].at)
	sep, c, err := ix.splitKey(pg, n, mid, level)
	if err != nil {
		return err
	}
	if level == ix.height-1 {
		if err := ix.growRoot(p); err != nil {
			return err
		}
	} else {
		parent := ix.at(p.steps[level+1].page)
		it, err := itemFor(parent, sep, c)
		if err != nil {
			return err
		}
		if freeBytes(parent) < entryBytes(parent, len(it.cell)) {
			return ix.split(p, level+1)
		}
	}
	return ix.splitAt(p, level, mid, sep, c)
}

// splitKey returns the separator for a split before entry mid. Between leaves it is the shortest
// key that separates them; between inner pages it is the key of entry mid.
func (ix *Index) splitKey(pg *Page, n, mid, level int) ([]byte, chain, error) {
	b, c, err := ix.KeyOf(pg, n, mid)
	if err != nil || level > 0 {
		return b, c, err
	}
	a, _, err := ix.KeyOf(pg, n, mid-1)
	if err != nil {
		return nil, chain{}, err
	}
	if bytes.Compare(a, b) >= 0 {
		return nil, chain{}, misplaced(pg)
	}
	return separator(a, b), chain{}, nil
}

// growRoot puts a new root above the old one.
func (ix *Index) growRoot(p *Path) error {
	if ix.height == MaxHeight {
		return fmt.Errorf("nvkv: index would exceed %d levels", MaxHeight)
	}
	old := p.steps[ix.height-1].page
	id, pg, err := ix.bornPage(ix.height, nil)
	if err != nil {
		return err
	}
	insertEntry(pg, 0, pageItem{}, Child{Page: old, born: uint16(Birth(ix.at(old)))}, &ix.scratch)
	p.steps[ix.height] = step{id, 0}
	ix.height++
	// The old root must not validate as a root after its split. So setRoot comes before its
	// EndChange, which is in splitAt.
	ix.setRoot(id)
	return nil
}

func (ix *Index) splitAt(p *Path, level, mid int, sep []byte, c chain) error {
	left, err := ix.own(p, level)
	if err != nil {
		return err
	}
	var lv *Vals
	if level == 0 {
		if lv, err = ix.ownVals(p); err != nil {
			return err
		}
	}
	if len(sep) > maxInline && c == (chain{}) {
		if c, err = ix.writeChain(sep); err != nil {
			return err
		}
	}
	low, high, err := ix.fences(p, level)
	if err != nil {
		return err
	}
	n := Count(left)
	rid, right, err := ix.bornPage(level, fencePrefix(sep, high))
	if err != nil {
		return err
	}
	if err := ix.fill(right, left, mid, n); err != nil {
		return err
	}
	rest, leftID := &ix.scratch2, p.steps[level].page
	initPage(rest, leftID, level, ix.epoch, fencePrefix(low, sep))
	if err := ix.fill(rest, left, 0, mid); err != nil {
		return err
	}
	rc := ix.newborn(rid, 0)
	if level == 0 {
		ix.leaves++
		num, rv, err := ix.bornVals()
		if err != nil {
			return err
		}
		rc = ix.newborn(rid, num)
		copy(rv[vbHeader:], lv[vbHeader+vbEntry*mid:vbHeader+vbEntry*n])
	}
	up := p.steps[level+1]
	parent, err := ix.own(p, level+1)
	if err != nil {
		return err
	}
	up.page = p.steps[level+1].page
	it, err := itemFor(parent, sep, c)
	if err != nil {
		return err
	}
	ix.begin(up.page)
	ix.begin(leftID)
	*left = *rest
	insertEntry(parent, up.at+1, it, rc, &ix.scratch)
	ix.end(leftID)
	ix.end(up.page)
	return nil
}

// fill copies entries [a, b) of src into the empty page dst. Their keys must have dst's prefix.
func (ix *Index) fill(dst, src *Page, a, b int) error {
	sn, sp := Count(src), pagePrefix(src)
	n, pl := b-a, pagePrefixLen(dst)
	cut, lead := max(pl-len(sp), 0), sp[min(pl, len(sp)):]
	var buf [maxInline]byte
	top := u16(dst, pgHeapTop)
	for j := range n {
		off, length, long := cell(src, sn, a+j)
		var it pageItem
		switch {
		case j == 0 && payload(dst) > 0: // stands for all keys below entry 1
		case long:
			h := head(src, a+j)
			if pl != len(sp) {
				var ok bool
				var err error
				if h, ok, err = ix.longHead(src[off:off+longCell], pl); err != nil {
					return err
				}
				if !ok {
					return misplaced(src)
				}
			}
			it = pageItem{h, longLen, src[off : off+longCell]}
		case cut == 0 && len(lead) == 0:
			it = pageItem{head(src, a+j), restLen(src, sn, a+j), src[off : off+length]}
		default:
			rest := appendRest(append(buf[:0], lead...), src, sn, a+j)
			if len(rest) < cut {
				return misplaced(src)
			}
			it = itemOf(rest[cut:])
		}
		if top -= len(it.cell); top < arraysEnd(dst, n) {
			return misplaced(src) // the prefix of src is longer than its fences allow
		}
		copy(dst[top:], it.cell)
		setHead(dst, j, it.head)
		put16(dst, slotsAt(n)+slotWidth*j, top)
		put16(dst, slotsAt(n)+slotWidth*j+2, it.length)
		if payload(dst) > 0 {
			setChildAt(dst, n, j, ChildAt(src, sn, a+j))
		}
	}
	put16(dst, pgCount, n)
	put16(dst, pgHeapTop, top)
	return nil
}
