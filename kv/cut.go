package kv

import (
	"bytes"

	"nvkv/nvmap"
)

// A range of keys leaves the index in whole pages where it can. Beside the
// published tree every stretch of children whose keys all lie in the range gives
// way to one empty child; only what its first and last leaf have of it goes key by
// key. One root swap then shows all of it at an instant. So a writer waits for a
// few pages and for a look at every leaf, and not for every key.
//
// What hung on the tree there is dismantled afterwards, a little at a time: records,
// value blocks, pages. Until then their slots are live to the allocator and
// nobody reaches them, so a freeze dismantles what is left before it copies the
// maps (R10). A crash before that finds the last checkpoint's tree and the
// range's record, and replays it.

// cutting is a range on its way out of the index.
type cutting struct {
	keyRange
	pages  []nvmap.PageID // that leave whole: their versions change when it is published
	leaves int            // of them
	keys   int64
}

// condemned is a page that left the tree with all that it names.
type condemned struct {
	child child
	level int
}

// DeleteRange removes the keys of [start, end), all at one instant. A nil end
// is open; where start is not below end there is nothing to do. It costs one
// record and one fence. Other writers wait while the pages that lie in the range
// are counted, readers do not wait; what they hold is freed afterwards, by and by.
// It waits for its turn as a writable transaction does.
func (db *DB) DeleteRange(start, end []byte) error {
	if len(start) > MaxKeyBytes || emptyRange(start, end) { // no record has such a key
		return db.Update(func(tx *Tx) error { return tx.DeleteRange(start, end) })
	}
	s, err := db.enterWriter()
	if err != nil {
		return err
	}
	defer s.leave()
	err = db.cutAlone(start, end)
	if db.madeRoom(err) {
		err = db.cutAlone(start, end)
	}
	return err
}

func (db *DB) cutAlone(start, end []byte) error {
	db.turn.hold()
	defer db.turn.give()
	if err := db.writable(); err != nil {
		return err
	}
	image := appendImage(nil, start, end)
	key := image[maxRecHeader : maxRecHeader+len(start)]
	r := keyRange{start: key}
	if end != nil {
		r.end = image[maxRecHeader+len(start):]
	}
	return db.commitAlone([]entry{{kind: kindRange, open: end == nil, image: image, key: key, cut: &cutting{keyRange: r}}})
}

// cutOf returns the cutting that es is, if it is one.
func cutOf(es []entry) *cutting {
	if len(es) == 1 {
		return es[0].cut
	}
	return nil
}

// pagesForCut returns how many pages and blocks a cut can take at most: copies of
// the ways to both ends, an empty child of each level on both sides, neighbours
// of merges.
func (ix *index) pagesForCut() (pages, blocks int) {
	h := ix.height
	return 4*h*h + 8*h + 16, 8*h + 8
}

// holds says whether all keys from low up to high lie in the range; nil fences
// are open.
func (r keyRange) holds(low, high []byte) bool {
	if len(r.start) > 0 && (low == nil || bytes.Compare(low, r.start) < 0) {
		return false
	}
	return r.holdsUpTo(high)
}

func (r keyRange) holdsUpTo(high []byte) bool {
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
func (ix *index) wholeAt(p *path, r keyRange) (s span, err error) {
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
		for n := pageCount(ix.at(up.page)); up.at+s.n < n; s.n++ {
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
// the way to its first leaf. fn may put another child in its place.
func (db *DB) eachWhole(r keyRange, fn func(p *path, s span) error) error {
	ix := &db.ix
	for pos := r.start; ; {
		p := &db.way
		if err := ix.find(pos, p); err != nil {
			return err
		}
		s, err := ix.wholeAt(p, r)
		if err != nil {
			return err
		}
		next := s.high
		if s.n == 0 {
			_, next, err = ix.fences(p, 0)
		} else {
			err = fn(p, s)
		}
		if err != nil {
			return err
		}
		if next == nil || !inside(next, r.end) {
			return nil
		}
		pos = next
	}
}

// survey reads every page that is to leave whole, and counts: nothing of that may
// fail once the range's record is stored. It says whether the range has keys.
func (db *DB) survey(c *cutting) (any bool, err error) {
	ix := &db.ix
	err = db.eachWhole(c.keyRange, func(p *path, s span) error {
		up := p.steps[s.level+1]
		pg := ix.at(up.page)
		n := pageCount(pg)
		for i := up.at; i < up.at+s.n; i++ {
			if err := ix.surveyPage(c, childAt(pg, n, i), s.level); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || c.keys > 0 {
		return true, err
	}
	at := cursor{ix: ix}
	if _, err := at.seek(ix.root, c.start); err != nil || !at.valid {
		return false, err
	}
	key, _, err := ix.fullKey(at.leaf, pageCount(at.leaf), at.at())
	return err == nil && inside(key, c.end), err
}

func (ix *index) surveyPage(c *cutting, ch child, level int) error {
	pg, err := ix.load(ch)
	if err != nil {
		return err
	}
	if pageLevel(pg) != level {
		return &CorruptError{Off: uint64(ch.page.Off()), Structure: "index page level"}
	}
	c.pages = append(c.pages, ch.page)
	n := pageCount(pg)
	if level == 0 {
		c.leaves++
		c.keys += int64(n)
		return nil
	}
	for i := range n {
		if ahead := i + 2; level == 1 && ahead < n {
			if next := childAt(pg, n, ahead); ix.within(next) {
				ix.prefetch(next)
			}
		}
		if err := ix.surveyPage(c, childAt(pg, n, i), level-1); err != nil {
			return err
		}
	}
	return nil
}

// cut takes what was surveyed out of the tree that is being built beside the
// published one.
func (db *DB) cut(c *cutting) error {
	ix := &db.ix
	var gaps [][]byte // where empty children stand now
	err := db.eachWhole(c.keyRange, func(p *path, s span) error {
		gaps = append(gaps, bytes.Clone(s.low))
		return db.detach(p, s)
	})
	if err != nil {
		return err
	}
	ix.replaced = append(ix.replaced, c.pages...)
	ix.leaves -= c.leaves
	db.keys -= c.keys
	if err := db.cutEnds(c); err != nil {
		return err
	}
	for _, gap := range gaps {
		for level := ix.height - 2; level >= 0; level-- {
			if level > ix.height-2 {
				continue // the root has come down meanwhile
			}
			if err := ix.find(gap, &db.way); err != nil {
				return err
			}
			if err := ix.merge(&db.way, level); err != nil {
				return err
			}
		}
	}
	return ix.shrinkRoot()
}

// detach puts an empty child in the place of a stretch.
func (db *DB) detach(p *path, s span) error {
	ix := &db.ix
	parent, err := ix.own(p, s.level+1)
	if err != nil {
		return err
	}
	empty, err := ix.emptyChild(s.level, fencePrefix(s.low, s.high))
	if err != nil {
		return err
	}
	up := p.steps[s.level+1]
	n := pageCount(parent)
	for i := up.at; i < up.at+s.n; i++ {
		db.holders.cut = append(db.holders.cut, condemned{childAt(parent, n, i), s.level})
	}
	ix.m.BeginChange(up.page)
	defer ix.m.EndChange(up.page)
	for ; s.n > 1; s.n-- {
		ix.leftChain(ix.chainOf(parent, pageCount(parent), up.at+1))
		removeEntry(parent, up.at+1)
	}
	setChildAt(parent, pageCount(parent), up.at, empty)
	return nil
}

// emptyChild makes an empty leaf, and pages above it up to a level.
func (ix *index) emptyChild(level int, prefix []byte) (child, error) {
	leaf, _, err := ix.bornPage(0, prefix)
	if err != nil {
		return child{}, err
	}
	vals, _, err := ix.bornVals()
	if err != nil {
		return child{}, err
	}
	ix.leaves++
	c := child{leaf, vals}
	for l := 1; l <= level; l++ {
		id, pg, err := ix.bornPage(l, prefix)
		if err != nil {
			return child{}, err
		}
		insertEntry(pg, 0, 0, nil, false, c, &ix.scratch)
		c = child{page: id}
	}
	return c, nil
}

// cutEnds takes the keys out that lie in leaves which stay.
func (db *DB) cutEnds(c *cutting) error {
	ix, p := &db.ix, &db.way
	for pos := c.start; ; {
		if err := ix.find(pos, p); err != nil {
			return err
		}
		leaf := ix.at(p.steps[0].page)
		n, at := pageCount(leaf), p.steps[0].at
		if at == n { // the rest of it lies in the next leaf
			_, next, err := ix.fences(p, 0)
			if err != nil || next == nil || !inside(next, c.end) {
				return err
			}
			pos = next
			continue
		}
		key, _, err := ix.fullKey(leaf, n, at)
		if err != nil || !inside(key, c.end) {
			return err
		}
		old, err := ix.remove(p)
		if err != nil {
			return err
		}
		db.keys--
		c.keys++
		db.replacedRecords = append(db.replacedRecords, old)
	}
}

// dismantle frees what condemned pages hold, about so many records of it, and
// says how many it was less. The caller holds the turn and publish.
func (db *DB) dismantle(most int) int {
	l := &db.holders
	if len(l.cut) == 0 {
		return most
	}
	s := db.pages.beginInside()
	defer s.endInside()
	for len(l.cut) > 0 && most > 0 {
		last := len(l.cut) - 1
		c := l.cut[last]
		l.cut = l.cut[:last]
		n, err := db.dismantlePage(c)
		if err != nil {
			_ = db.fail(err) // it was read when it was surveyed
			l.cut = nil
		}
		most -= n
	}
	return max(most, 0)
}

func (db *DB) dismantlePage(c condemned) (records int, err error) {
	defer db.guarded("delete range", panicOnFault(true), &err)
	ix := &db.ix
	pg, err := ix.load(c.child)
	if err != nil {
		return 1, err
	}
	n := pageCount(pg)
	for i := range n {
		ix.leftChain(ix.chainOf(pg, n, i))
	}
	if c.level > 0 {
		for i := range n {
			db.holders.cut = append(db.holders.cut, condemned{childAt(pg, n, i), c.level - 1})
		}
	} else {
		b := ix.vals(c.child.vals)
		for i := range min(n, leafFanout) {
			db.supersede(valAt(b, i))
		}
		ix.retire(c.child.valsOff(), vbBirthOf(b))
	}
	ix.retire(c.child.page.Off(), pageBirth(pg))
	return n + 1, nil
}
