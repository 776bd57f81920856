package btree

import "nvkv/nvmap"

// A page with fewer used bytes than mergeBelow is merged with a neighbour. The result may have
// mergeInto at most.
const (
	mergeBelow = nvmap.PageBytes / 4
	mergeInto  = nvmap.PageBytes * 3 / 4
)

// merge merges the page at a level of p with a neighbour if both are small, and continues with the
// parent, which lost an entry.
func (ix *Index) merge(p *Path, level int) error {
	if level == ix.height-1 {
		return ix.shrinkRoot()
	}
	pg := ix.at(p.steps[level].page)
	if usedBytes(pg) >= mergeBelow {
		return nil
	}
	up := p.steps[level+1]
	n := Count(ix.at(up.page))
	for _, left := range [2]int{up.at - 1, up.at} {
		if left < 0 || left+1 >= n {
			continue
		}
		done, err := ix.mergeAt(p, level, left)
		if err != nil {
			return err
		}
		if done {
			return ix.merge(p, level+1)
		}
	}
	return nil
}

// mergeAt merges children left and left+1 of the parent of a level, if they fit one page with the
// prefix of their common fences.
func (ix *Index) mergeAt(p *Path, level, left int) (bool, error) {
	parent := ix.at(p.steps[level+1].page)
	n := Count(parent)
	lp, err := ix.Load(ChildAt(parent, n, left))
	if err != nil {
		return false, err
	}
	rp, err := ix.Load(ChildAt(parent, n, left+1))
	if err != nil {
		return false, err
	}
	sep, c, err := ix.KeyOf(parent, n, left+1)
	if err != nil {
		return false, err
	}
	low, high, err := ix.fencesOf(p, level, left)
	if err != nil {
		return false, err
	}
	prefix := fencePrefix(low, high)
	if !mergeFits(lp, rp, len(prefix), len(sep)) {
		return false, nil
	}
	return true, ix.mergePages(p, level, left, prefix, sep, c)
}

// fencesOf returns the fences around children left and left+1.
func (ix *Index) fencesOf(p *Path, level, left int) (low, high []byte, err error) {
	q := *p
	q.steps[level+1].at = left
	if low, _, err = ix.fences(&q, level); err != nil {
		return nil, nil, err
	}
	q.steps[level+1].at = left + 1
	_, high, err = ix.fences(&q, level)
	return low, high, err
}

// mergeFits says whether two pages should become one. Between inner pages the separator becomes an
// entry of the result. An empty page needs no room: it is merged whenever the entries of the other
// one fit under the new prefix.
func mergeFits(lp, rp *Page, prefixLen, sepLen int) bool {
	ln, rn := Count(lp), Count(rp)
	sum := prefixLen
	for _, pg := range [2]*Page{lp, rp} {
		grow := max(pagePrefixLen(pg)-prefixLen, 0)
		sum += usedBytes(pg) - pagePrefixLen(pg) + grow*Count(pg)
	}
	if Level(lp) == 0 {
		if ln == 0 || rn == 0 {
			return sum <= nvmap.PageBytes-pgHeader
		}
		return ln+rn <= LeafFanout*3/4 && sum <= mergeInto
	}
	if sepLen > maxInline {
		return sum+longCell <= mergeInto
	}
	return sum+cellBytes(sepLen-prefixLen) <= mergeInto
}

// mergePages merges children left and left+1 of the parent of a level. The page on the path p
// stays: it and the pages above it are of this epoch already, so a merge takes no page.
func (ix *Index) mergePages(p *Path, level, left int, prefix, sep []byte, c chain) error {
	stays, err := ix.own(p, level)
	if err != nil {
		return err
	}
	parent, err := ix.own(p, level+1)
	if err != nil {
		return err
	}
	up, id := &p.steps[level+1], p.steps[level].page
	n, at := Count(parent), up.at
	goes := ChildAt(parent, n, left+left+1-at)
	other := ix.at(goes.Page)
	first, second := stays, other
	if at > left {
		first, second = other, stays
	}
	merged := &ix.scratch2
	if err := ix.joined(merged, id, first, second, prefix, sep, c); err != nil {
		return err
	}
	var vals, otherVals *Vals
	if level == 0 {
		if vals, err = ix.ownVals(p); err != nil {
			return err
		}
		otherVals = ix.Vals(goes.Vals)
	}
	ix.begin(up.page)
	ix.begin(id)
	if level == 0 {
		joinVals(vals, otherVals, Count(stays), Count(other), at > left)
	}
	*stays = *merged
	setChildAt(parent, n, left, ChildAt(parent, n, at))
	removeEntry(parent, left+1)
	up.at = left
	ix.end(id)
	ix.end(up.page)
	if level == 0 {
		ix.leaves--
		ix.leftChain(c)
		ix.depart(goes.ValsOff(), ValsBirth(otherVals))
	}
	ix.left(goes.Page, Birth(other))
	return nil
}

// joined builds the page id in dst from the entries of two neighbours.
func (ix *Index) joined(dst *Page, id nvmap.PageID, first, second *Page, prefix, sep []byte, c chain) error {
	level := Level(first)
	initPage(dst, id, level, ix.epoch, prefix)
	if err := ix.fill(dst, first, 0, Count(first)); err != nil {
		return err
	}
	return ix.appendPage(dst, second, Count(second), level, sep, c)
}

// joinVals inserts the references of the other leaf into vals, before the existing ones or behind
// them.
func joinVals(vals, other *Vals, n, otherN int, before bool) {
	at, moved := vbHeader+vbEntry*n, vbHeader+vbEntry*otherN
	if before {
		copy(vals[moved:], vals[vbHeader:at])
		at = vbHeader
	}
	copy(vals[at:], other[vbHeader:moved])
}

// appendPage appends the entries of src to dst. Between inner pages the separator becomes the key
// of src's entry 0.
func (ix *Index) appendPage(dst, src *Page, n, level int, sep []byte, sepChain chain) error {
	for i := range n {
		key, c, err := sep, sepChain, error(nil)
		if level == 0 || i > 0 {
			if key, c, err = ix.KeyOf(src, n, i); err != nil {
				return err
			}
		}
		var ch Child
		if level > 0 {
			ch = ChildAt(src, n, i)
		}
		it, err := itemFor(dst, key, c)
		if err != nil {
			return err
		}
		if freeBytes(dst) < entryBytes(dst, len(it.cell)) {
			return misplaced(src)
		}
		insertEntry(dst, Count(dst), it, ch, &ix.scratch)
	}
	return nil
}

// shrinkRoot removes roots that have a single inner child.
func (ix *Index) shrinkRoot() error {
	for ix.height > 2 {
		pg := ix.at(ix.root)
		if Count(pg) != 1 {
			return nil
		}
		old, next := ix.root, ChildAt(pg, 1, 0)
		if _, err := ix.Load(next); err != nil {
			return err
		}
		ix.height--
		ix.setRoot(next.Page)
		ix.left(old, Birth(pg))
	}
	return nil
}
