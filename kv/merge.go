package kv

import "nvkv/nvmap"

// mergeBelow is the fill, in bytes, below which a page looks for a neighbour
// to merge with; mergeInto the fill that a merged page may have at most.
const (
	mergeBelow = nvmap.PageBytes / 4
	mergeInto  = nvmap.PageBytes * 3 / 4
)

// merge joins the page at a level of p with a neighbour when both are small,
// and goes on with the parent, which lost an entry.
func (ix *index) merge(p *path, level int) error {
	if level == ix.height-1 {
		return ix.shrinkRoot()
	}
	pg := ix.at(p.steps[level].page)
	if usedBytes(pg) >= mergeBelow {
		return nil
	}
	up := p.steps[level+1]
	n := pageCount(ix.at(up.page))
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

// mergeAt joins children left and left+1 of the parent of a level, if they fit
// into one page together under the prefix that their fences leave.
func (ix *index) mergeAt(p *path, level, left int) (bool, error) {
	parent := ix.at(p.steps[level+1].page)
	n := pageCount(parent)
	lc, rc := childAt(parent, n, left), childAt(parent, n, left+1)
	lp, err := ix.load(lc)
	if err != nil {
		return false, err
	}
	rp, err := ix.load(rc)
	if err != nil {
		return false, err
	}
	sep, chain, err := ix.fullKey(parent, n, left+1)
	if err != nil {
		return false, err
	}
	low, high, err := ix.fencesOf(p, level, left)
	if err != nil {
		return false, err
	}
	prefix := fencePrefix(low, high)
	if !mergeFits(lp, rp, len(prefix), sep) {
		return false, nil
	}
	return true, ix.mergePages(p, level, left, prefix, sep, chain)
}

// fencesOf returns what lies around children left and left+1.
func (ix *index) fencesOf(p *path, level, left int) (low, high []byte, err error) {
	q := *p
	q.steps[level+1].at = left
	if low, _, err = ix.fences(&q, level); err != nil {
		return nil, nil, err
	}
	q.steps[level+1].at = left + 1
	_, high, err = ix.fences(&q, level)
	return low, high, err
}

func mergeFits(lp, rp *page, prefixLen int, sep []byte) bool {
	ln, rn := pageCount(lp), pageCount(rp)
	if pageLevel(lp) == 0 && ln+rn > leafFanout*3/4 {
		return false
	}
	sum := prefixLen + len(sep)
	for _, pg := range [2]*page{lp, rp} {
		grow := max(pagePrefixLen(pg)-prefixLen, 0)
		sum += usedBytes(pg) + grow*pageCount(pg)
	}
	return sum <= mergeInto
}

func (ix *index) mergePages(p *path, level, left int, prefix, sep []byte, chain nvmap.PageID) error {
	// Own the left page through a path of its own; the right one only leaves.
	q := *p
	q.steps[level+1].at = left
	parent := ix.at(q.steps[level+1].page)
	n := pageCount(parent)
	lc, rc := childAt(parent, n, left), childAt(parent, n, left+1)
	q.steps[level] = step{page: lc.page}
	q.vals = lc.vals
	lp, err := ix.own(&q, level)
	if err != nil {
		return err
	}
	rp := ix.at(rc.page)
	ln, rn := pageCount(lp), pageCount(rp)
	var lv, rv *vblock
	if level == 0 {
		if lv, err = ix.ownVals(&q); err != nil {
			return err
		}
		rv = ix.vals(rc.vals)
	}
	if parent, err = ix.own(&q, level+1); err != nil {
		return err
	}
	*p = q
	upID, leftID := q.steps[level+1].page, q.steps[level].page
	ix.scratch2 = *lp
	ix.m.BeginChange(upID)
	ix.m.BeginChange(leftID)
	initPage(lp, leftID, level, ix.epoch, prefix)
	err = ix.fill(lp, &ix.scratch2, 0, ln)
	if err == nil {
		err = ix.appendPage(lp, rp, rn, level, sep, chain)
	}
	if level == 0 {
		copy(lv[vbHeader+vbEntry*ln:], rv[vbHeader:vbHeader+vbEntry*rn])
	}
	removeEntry(parent, left+1)
	ix.m.EndChange(leftID)
	ix.m.EndChange(upID)
	if err != nil {
		return err
	}
	if level == 0 {
		ix.leaves--
		ix.leftChain(chain)
		ix.retire(rc.valsOff(), vbBirthOf(rv))
	}
	ix.left(rc.page, pageBirth(rp))
	return nil
}

// appendPage puts the entries of src behind those of dst. Between inner pages
// the separator comes down and names what src's entry 0 stood for.
func (ix *index) appendPage(dst, src *page, n, level int, sep []byte, chain nvmap.PageID) error {
	pl := pagePrefixLen(dst)
	for i := range n {
		key, c, err := sep, chain, error(nil)
		if level == 0 || i > 0 {
			if key, c, err = ix.fullKey(src, n, i); err != nil {
				return err
			}
		}
		h, cellBytes, long := makeCell(pl, key, c)
		var ch child
		if level > 0 {
			ch = childAt(src, n, i)
		}
		insertEntry(dst, pageCount(dst), h, cellBytes, long, ch, &ix.scratch)
	}
	return nil
}

// shrinkRoot takes roots with a single inner child away.
func (ix *index) shrinkRoot() error {
	for ix.height > 2 {
		pg := ix.at(ix.root)
		if pageCount(pg) != 1 {
			return nil
		}
		old := ix.root
		ix.height--
		ix.setRoot(childAt(pg, 1, 0).page)
		ix.left(old, pageBirth(pg))
	}
	return nil
}
