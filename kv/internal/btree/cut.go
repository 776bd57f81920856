package btree

import (
	"bytes"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A range of keys leaves the tree in whole pages where it can. Beside the published
// tree every stretch of children whose keys all lie in the range gives way to one empty
// child; only what its first and last leaf have of it goes key by key. Of several ranges,
// no two of which overlap, the whole pages leave first: what was surveyed of one is as it
// was when its turn comes, because only single keys make pages merge.

// Cutting is a range on its way out of the index.
type Cutting struct {
	span   cutRange
	pages  []nvmap.PageID // that leave whole: their versions change when it is published
	leaves int            // of them
	holes  []hole         // where they were
	ends   int            // keys that do not leave with whole pages
	keys   int64          // all of them
	left   Visits
}

// hole is a place where an empty child takes over from children of a level.
type hole struct {
	low, high []byte // fences around it
	level     int    // of the child
}

// NewCutting returns the keys from start up to end as a cutting; a nil end is open.
func NewCutting(start, end []byte) *Cutting { return &Cutting{span: cutRange{start, end}} }

// Keys returns how many keys a surveyed range has, single how many of them do not leave
// with whole pages, and whole whether pages do.
func (c *Cutting) Keys() int64 { return c.keys }
func (c *Cutting) Single() int { return c.ends }
func (c *Cutting) Whole() bool { return len(c.pages) > 0 }

// Detached is a page that left the tree with all that it names.
type Detached struct {
	child Child
	level int
	freed int // records of a leaf that are freed already
}

// NeedOfCut returns what a cut takes at most: copies of the ways to both ends, and
// on each level of both an empty child with what is below it.
func (ix *Index) NeedOfCut() Stock {
	h := ix.height
	return Stock{2*h + h*(h+1), 2 + 2*h}
}

// cutRange is the keys from start up to end; a nil end is open.
type cutRange struct{ start, end []byte }

// below says whether key is below the end.
func (r cutRange) below(key []byte) bool { return r.end == nil || bytes.Compare(key, r.end) < 0 }

// holds says whether all keys from low up to high lie in the range; nil fences
// are open.
func (r cutRange) holds(low, high []byte) bool {
	if len(r.start) > 0 && (low == nil || bytes.Compare(low, r.start) < 0) {
		return false
	}
	return r.holdsUpTo(high)
}

func (r cutRange) holdsUpTo(high []byte) bool {
	return r.end == nil || high != nil && bytes.Compare(high, r.end) <= 0
}

// span is some children of a page, side by side.
type span struct {
	level     int    // theirs
	n         int    // how many; 0: none
	low, high []byte // fences around all of them
}

// wholeAt returns the longest stretch of the highest level, from the way p on,
// that lies in r as a whole.
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

// eachWhole calls fn for every stretch that lies in r as a whole, in order, with
// p as the way to its first leaf, and part for the leaves that lie in r in part, with the
// way to the first key of r, and with the fence above. fn may put another child in the place of the stretch.
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

// Onward returns next, to which a walk goes on from a key, if that comes behind it: else
// the walk might not end.
func (ix *Index) Onward(p *Path, from, next []byte) ([]byte, error) {
	if bytes.Compare(next, from) <= 0 {
		return nil, &record.CorruptError{Off: uint64(p.steps[1].page.Off()), Structure: "index page, whose keys do not ascend,"}
	}
	return next, nil
}

// Survey reads every page that is to leave whole, and counts the keys: nothing of that
// may fail once the range's record is stored.
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

// keysBelow returns how many keys the leaf of p has from the way on up to the end of r;
// high is the fence above it.
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

// DetachAll takes the whole pages of a range out of the tree that is being built beside
// the published one, and returns them. p is used on the way.
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

// CutRest takes the keys of a range out that did not leave with whole pages, and the
// empty children that those left, where they merge. It calls record for the record of
// each key. p is used on the way.
func (ix *Index) CutRest(c *Cutting, p *Path, record func(Ref)) error {
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

// mergeAround merges what stands at a key, on each level, with its neighbours.
func (ix *Index) mergeAround(key []byte, p *Path) error {
	for level := ix.height - 2; level >= 0; level-- {
		if level > ix.height-2 {
			continue // the root has come down meanwhile
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

// detach puts an empty child in the place of a stretch, whose pages it adds to gone.
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

// cutEnds takes the keys out that lie in leaves which stay.
func (ix *Index) cutEnds(c *Cutting, p *Path, record func(Ref)) error {
	for pos := c.span.start; ; {
		if err := ix.Find(pos, p); err != nil {
			return err
		}
		leaf := ix.at(p.steps[0].page)
		n, at := Count(leaf), p.steps[0].at
		if at == n { // the rest of it lies in the next leaf
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
		old, err := ix.Remove(p)
		if err != nil {
			return err
		}
		record(old)
	}
}

// Dismantle takes a page apart: retire is told of it and of what hangs on it, record of
// the records of a leaf, of which it takes most at a time. It returns how much that was,
// and what is left: the pages below an inner page, or a leaf that has more records.
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
		_ = ix.eachOverflow(chainOf(pg, n, i), func(id nvmap.PageID, pg *Page) error { // see leftChain
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
