package btree

import (
	"bytes"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A range of keys leaves the tree in whole pages where possible. Beside the published tree, one
// empty child replaces each stretch of children whose keys all lie in the range. The other keys of
// the range, in its first and its last leaf, are removed one by one.
//
// If there are several ranges, none of which overlap, the whole pages of all of them leave first.
// Only the removal of single keys makes pages merge, so the survey of a range is still true when
// its pages leave.

// Cutting is a range that is being removed from the index.
type Cutting struct {
	span   cutRange
	pages  []nvmap.PageID // pages that leave whole; their versions change when the cut is published
	leaves int            // how many of pages are leaves
	holes  []hole         // the empty children that replace pages
	ends   int            // keys that do not leave with whole pages
	keys   int64          // all keys of the range
	left   Visits
}

// hole is a place where an empty child replaces children of a level.
type hole struct {
	low, high []byte // fences around it
	level     int    // of the child
}

// NewCutting returns a cutting for the keys from start up to end, exclusively. A nil end is open.
func NewCutting(start, end []byte) *Cutting { return &Cutting{span: cutRange{start, end}} }

// Keys returns how many keys a surveyed range has. Single returns how many of them do not leave
// with whole pages. Whole says whether any pages leave whole.
func (c *Cutting) Keys() int64 { return c.keys }
func (c *Cutting) Single() int { return c.ends }
func (c *Cutting) Whole() bool { return len(c.pages) > 0 }

// Detached is a page that left the tree with everything below it.
type Detached struct {
	child Child
	level int
	freed int // records of a leaf that were freed already
}

// NeedOfCut returns the pages and blocks that a cut needs at most: copies of the pages on the paths
// to both ends, and at both ends an empty child on each level with the pages below it.
func (ix *Index) NeedOfCut() Stock {
	h := ix.height
	return Stock{2*h + h*(h+1), 2 + 2*h}
}

// cutRange is the keys from start up to end, exclusively. A nil end is open.
type cutRange struct{ start, end []byte }

// below says whether key is below the end of the range.
func (r cutRange) below(key []byte) bool { return r.end == nil || bytes.Compare(key, r.end) < 0 }

// holds says whether all keys from low up to high lie in the range. Nil fences are open.
func (r cutRange) holds(low, high []byte) bool {
	if len(r.start) > 0 && (low == nil || bytes.Compare(low, r.start) < 0) {
		return false
	}
	return r.holdsUpTo(high)
}

func (r cutRange) holdsUpTo(high []byte) bool {
	return r.end == nil || high != nil && bytes.Compare(high, r.end) <= 0
}

// span is a stretch of adjacent children of one page.
type span struct {
	level     int    // of the children
	n         int    // how many children; 0: none
	low, high []byte // fences around all of them
}

// wholeAt returns the longest stretch, on the highest level possible, that begins at the path p and
// lies in r as a whole.
func (ix *Index) wholeAt(p *Path, r cutRange) (s span, err error) {
	for level := ix.height - 2; level >= 0; level-- {
		low, high, err := ix.fences(p, level)
		if err != nil {
			return span{}, err
		}
		if !r.holds(low, high) {
			continue
		}
		s = span{level: level, n: 1, low: low, high: high}
		q, up := *p, p.steps[level+1]
		for n := Count(ix.at(up.page)); up.at+s.n < n; s.n++ {
			q.steps[level+1].at = up.at + s.n
			_, next, err := ix.fences(&q, level)
			if err != nil {
				return span{}, err
			}
			if !r.holdsUpTo(next) {
				break
			}
			s.high = next
		}
		return s, nil
	}
	return span{}, nil
}

// eachWhole walks the leaves of r in order. It calls fn for every stretch that lies in r as a
// whole, with p as the path to its first leaf, and part for every leaf that lies in r in part, with
// p as the path to its first key of r and with the fence above the leaf. fn may replace the
// children of the stretch.
func (ix *Index) eachWhole(r cutRange, p *Path, fn func(span) error, part func(high []byte) error) error {
	for pos := r.start; ; {
		if err := ix.Find(pos, p); err != nil {
			return err
		}
		s, err := ix.wholeAt(p, r)
		if err != nil {
			return err
		}
		next := s.high
		if s.n > 0 {
			err = fn(s)
		} else if _, next, err = ix.fences(p, 0); err == nil {
			err = part(next)
		}
		if err != nil {
			return err
		}
		if next == nil || !r.below(next) {
			return nil
		}
		if pos, err = ix.Onward(p, pos, next); err != nil {
			return err
		}
	}
}

// Onward returns next, the key at which a walk continues after from. It returns an error if next
// does not follow from, because the walk might not end.
func (ix *Index) Onward(p *Path, from, next []byte) ([]byte, error) {
	if bytes.Compare(next, from) <= 0 {
		return nil, &record.CorruptError{Off: uint64(p.steps[1].page.Off()), Structure: "index page with keys out of order"}
	}
	return next, nil
}

// Survey reads every page that is to leave whole and counts the keys of the range. It comes before
// the range's record is stored, because no read may fail afterwards.
func (ix *Index) Survey(c *Cutting, p *Path) error {
	*c = Cutting{span: c.span, left: ix.Visits()}
	err := ix.eachWhole(c.span, p, func(s span) error {
		c.holes = append(c.holes, hole{bytes.Clone(s.low), bytes.Clone(s.high), s.level})
		up := p.steps[s.level+1]
		pg := ix.at(up.page)
		n := Count(pg)
		for i := up.at; i < up.at+s.n; i++ {
			if err := ix.surveyPage(c, ChildAt(pg, n, i)); err != nil {
				return err
			}
		}
		return nil
	}, func(high []byte) error {
		n, err := ix.keysBelow(p, c.span, high)
		c.ends += n
		return err
	})
	c.keys += int64(c.ends)
	return err
}

// keysBelow returns how many keys of r the leaf of p has from the entry of p on. high is the fence
// above the leaf.
func (ix *Index) keysBelow(p *Path, r cutRange, high []byte) (int, error) {
	pg, from := ix.at(p.steps[0].page), p.steps[0].at
	if r.holdsUpTo(high) {
		return Count(pg) - from, nil
	}
	to, _, err := ix.Search(pg, r.end)
	return max(0, to-from), err
}

func (ix *Index) surveyPage(c *Cutting, ch Child) error {
	if err := c.left.One(ch); err != nil {
		return err
	}
	pg, err := ix.Load(ch)
	if err != nil {
		return err
	}
	level := Level(pg)
	c.pages = append(c.pages, ch.Page)
	n := Count(pg)
	if level == 0 {
		c.leaves++
		c.keys += int64(n)
		return nil
	}
	for i := range n {
		if ahead := i + 2; level == 1 && ahead < n {
			if next := ChildAt(pg, n, ahead); ix.within(next) {
				ix.prefetch(next)
			}
		}
		if err := ix.surveyPage(c, ChildAt(pg, n, i)); err != nil {
			return err
		}
	}
	return nil
}

// DetachAll takes the whole pages of a range out of the private build and returns them. It
// overwrites p.
func (ix *Index) DetachAll(c *Cutting, p *Path) (gone []Detached, err error) {
	if len(c.pages) == 0 {
		return nil, nil
	}
	err = ix.eachWhole(c.span, p, func(s span) error {
		gone, err = ix.detach(p, s, gone)
		return err
	}, func([]byte) error { return nil })
	if err != nil {
		return gone, err
	}
	ix.replaced = append(ix.replaced, c.pages...)
	ix.leaves -= c.leaves
	return gone, nil
}

// CutRest removes the keys of a range that did not leave with whole pages, and merges the empty
// children that DetachAll left. It calls record with each removed key and its reference; the key is
// valid until record returns. It overwrites p.
func (ix *Index) CutRest(c *Cutting, p *Path, record func(key []byte, x Ref)) error {
	if err := ix.cutEnds(c, p, record); err != nil {
		return err
	}
	for _, h := range c.holes {
		if err := ix.mergeAround(h.low, p); err != nil {
			return err
		}
	}
	return ix.shrinkRoot()
}

// mergeAround merges the page of a key with its neighbours, on each level.
func (ix *Index) mergeAround(key []byte, p *Path) error {
	for level := ix.height - 2; level >= 0; level-- {
		if level > ix.height-2 {
			continue // the height of the tree has shrunk meanwhile
		}
		if err := ix.Find(key, p); err != nil {
			return err
		}
		if err := ix.merge(p, level); err != nil {
			return err
		}
	}
	return nil
}

// detach replaces a stretch by an empty child and appends the pages of the stretch to gone.
func (ix *Index) detach(p *Path, s span, gone []Detached) ([]Detached, error) {
	parent, err := ix.own(p, s.level+1)
	if err != nil {
		return gone, err
	}
	empty, err := ix.emptyChild(s.level, fencePrefix(s.low, s.high))
	if err != nil {
		return gone, err
	}
	up := p.steps[s.level+1]
	n := Count(parent)
	for i := up.at; i < up.at+s.n; i++ {
		gone = append(gone, Detached{child: ChildAt(parent, n, i), level: s.level})
	}
	ix.begin(up.page)
	for ; s.n > 1; s.n-- {
		ix.leftChain(chainOf(parent, Count(parent), up.at+1))
		removeEntry(parent, up.at+1)
	}
	setChildAt(parent, Count(parent), up.at, empty)
	ix.end(up.page)
	return gone, nil
}

// emptyChild makes an empty leaf, and pages above it up to a level.
func (ix *Index) emptyChild(level int, prefix []byte) (Child, error) {
	leaf, _, err := ix.bornPage(0, prefix)
	if err != nil {
		return Child{}, err
	}
	vals, _, err := ix.bornVals()
	if err != nil {
		return Child{}, err
	}
	ix.leaves++
	c := ix.newborn(leaf, vals)
	for l := 1; l <= level; l++ {
		id, pg, err := ix.bornPage(l, prefix)
		if err != nil {
			return Child{}, err
		}
		insertEntry(pg, 0, pageItem{}, c, &ix.scratch)
		c = ix.newborn(id, 0)
	}
	return c, nil
}

// cutEnds removes the keys of the range from leaves that stay. If they are more than the survey
// counted in the whole range, keys are not in order and the removal might not end.
func (ix *Index) cutEnds(c *Cutting, p *Path, removed func(key []byte, x Ref)) error {
	left := c.keys
	for pos := c.span.start; ; {
		if err := ix.Find(pos, p); err != nil {
			return err
		}
		leaf := ix.at(p.steps[0].page)
		n, at := Count(leaf), p.steps[0].at
		if at == n { // the rest of the range begins in the next leaf
			_, next, err := ix.fences(p, 0)
			if err != nil || next == nil || !c.span.below(next) {
				return err
			}
			if pos, err = ix.Onward(p, pos, next); err != nil {
				return err
			}
			continue
		}
		key, _, err := ix.KeyOf(leaf, n, at)
		if err != nil || !c.span.below(key) {
			return err
		}
		if left--; left < 0 {
			return &record.CorruptError{Off: uint64(p.steps[0].page.Off()), Structure: "index page with keys out of order"}
		}
		old, err := ix.Remove(p)
		if err != nil {
			return err
		}
		removed(key, old)
	}
}

// Dismantle takes a detached page apart. It calls retire for the page, its value block and its
// overflow pages, and record for the records of a leaf, at most most at a time. It returns how many
// things it released, and what remains: the pages below an inner page, or the leaf if it has more
// records.
func (ix *Index) Dismantle(d *Detached, most int, record func(Ref), retire func(o nvmap.Off, birth uint64)) (freed int, left []Detached, err error) {
	pg, err := ix.Load(d.child)
	if err != nil {
		return 1, nil, err
	}
	if d.level == 0 {
		freed = ix.dismantleLeaf(pg, d, most, record)
		if freed == most {
			return freed, []Detached{*d}, nil
		}
		retire(d.child.ValsOff(), ValsBirth(ix.Vals(d.child.Vals)))
	}
	n := Count(pg)
	for i := range n {
		// An error leaks the chain, see leftChain.
		_ = ix.eachOverflow(chainOf(pg, n, i), func(id nvmap.PageID, pg *Page) error {
			ix.bump(id)
			retire(id.Off(), Birth(pg))
			return nil
		})
		if d.level > 0 {
			left = append(left, Detached{child: ChildAt(pg, n, i), level: d.level - 1})
		}
	}
	retire(d.child.Page.Off(), Birth(pg))
	return freed + 1, left, nil
}

func (ix *Index) dismantleLeaf(pg *Page, d *Detached, most int, record func(Ref)) (freed int) {
	b := ix.Vals(d.child.Vals)
	for n := min(Count(pg), LeafFanout); d.freed < n && freed < most; freed++ {
		record(ValAt(b, d.freed))
		d.freed++
	}
	return freed
}
