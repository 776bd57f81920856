package kv

import (
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A range of keys leaves the index in whole pages where possible. Beside the published tree, one
// empty child replaces each stretch of children whose keys all lie in the range. The other keys of
// the range, in its first and its last leaf, are removed one by one. One root swap then shows all
// of it at one instant. So other writers wait for a few pages and for a look at every leaf, not for
// every key.
//
// The ranges of a transaction come first in it, and none of them overlap. The whole pages of all
// ranges leave before the single keys. Only the removal of single keys makes pages merge, so the
// survey of a range is still true when its pages leave.
//
// The pages that left are dismantled afterwards, some at a time: records, value blocks, pages.
// Until then the allocator counts their slots as live, but no root reaches them. So a freeze
// dismantles the rest before it copies the maps (R10). After a crash before that, a recovery finds
// the last checkpoint's tree and the range's record, and replays the record.

// condemned is a page that left the tree with everything below it.
type condemned struct {
	btree.Detached

	// newest is the newest holder at the moment when the page left. Later holders cannot see it. It
	// may have been closed since.
	newest *holder
}

// DeleteRange removes the keys of [start, end) at one instant. A nil end is open. If start is not
// below end, it does nothing. It costs one record and one fence. Other writers wait while the pages
// in the range are counted; readers do not wait. The pages and records are freed in the background
// afterwards. DeleteRange waits for its turn like a writable transaction.
func (db *DB) DeleteRange(start, end []byte) error {
	r := rangeOf(start, end)
	if r.empty() {
		return db.mayWait()
	}
	s, err := db.enterWriter()
	if err != nil {
		return err
	}
	defer s.leave()
	err = db.cutAlone(r.start, r.end)
	for try := 0; db.madeRoom(err, nil, try, &pace{}); try++ {
		err = db.cutAlone(r.start, r.end)
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
	key := image[record.MaxHeaderBytes : record.MaxHeaderBytes+len(start)]
	return db.commitAlone([]entry{rangeEntry(image, key, end == nil)})
}

// rangeEntry returns the entry of a range. image holds its start, which is key, and its end.
func rangeEntry(image, key []byte, open bool) entry {
	var end []byte
	if !open {
		end = image[record.MaxHeaderBytes+len(key):]
	}
	return entry{kind: record.KindRange, open: open, image: image, key: key, cut: btree.NewCutting(key, end)}
}

// rangesOf returns the number of ranges in es. They come first.
func rangesOf(es []entry) (n int) {
	for n < len(es) && es[n].kind == record.KindRange {
		n++
	}
	return n
}

// dropAbsentRanges surveys ranges and returns those that have keys.
func (db *DB) dropAbsentRanges(es []entry) (out []entry, err error) {
	for i := range es {
		c := es[i].cut
		if err := db.survey(c); err != nil {
			return nil, err
		}
		if c.Keys() > 0 {
			out = append(out, es[i])
		}
	}
	return out, nil
}

// survey reads every page that is to leave whole and counts the keys of the range. It comes before
// the range's record is stored, because no read may fail afterwards.
func (db *DB) survey(c *btree.Cutting) error { return db.ix.Survey(c, &db.way) }

// detachAll takes the whole pages of a range out of the build beside the published tree.
func (db *DB) detachAll(e *entry) error {
	gone, err := db.ix.DetachAll(e.cut, &db.way)
	for _, d := range gone {
		db.beside.cut = append(db.beside.cut, condemned{Detached: d})
	}
	if err == nil && e.cut.Whole() {
		db.keys -= e.cut.Keys() - int64(e.cut.Single())
	}
	return err
}

// cutRest removes the keys of a range that did not leave with whole pages.
func (db *DB) cutRest(c *btree.Cutting) error {
	return db.ix.CutRest(c, &db.way, func(key []byte, x btree.Ref) {
		db.keys--
		db.hashLeft(key, x)
		db.replacedRecords = append(db.replacedRecords, x)
	})
}

// dismantle frees pages and records of condemned pages, at most most of them; the overflow pages of
// long keys come on top. It returns how many of most are left. The caller holds the turn and
// publish.
func (db *DB) dismantle(most int) int {
	l := &db.holders
	if len(l.cut) == 0 {
		return most
	}
	s := db.pages.BeginInside()
	defer s.LeaveInside()
	for len(l.cut) > 0 && most > 0 {
		last := len(l.cut) - 1
		c := l.cut[last]
		l.cut = l.cut[:last]
		n, err := db.dismantlePage(c, most)
		if err != nil {
			_ = db.fail(err) // the survey had read it
			l.cut = nil
		}
		most -= n
	}
	return most
}

// dismantleSome calls dismantle and says whether more remain. The caller holds the turn.
func (db *DB) dismantleSome() (more bool) {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.dismantle(reclaimMost)
	return len(db.holders.cut) > 0
}

// dismantlePage frees a page and, before it, at most most records of a leaf. The pages below an
// inner page become condemned.
func (db *DB) dismantlePage(c condemned, most int) (freed int, err error) {
	defer db.guarded("delete range", panicOnFault(true), &err)
	for c.newest != nil && c.newest.gone {
		c.newest = c.newest.older
	}
	freed, left, err := db.ix.Dismantle(&c.Detached, most,
		func(x btree.Ref) { db.supersede(x, c.newest) },
		func(o nvmap.Off, birth uint64) { db.retirePage(o, birth, c.newest) })
	for _, d := range left {
		db.holders.cut = append(db.holders.cut, condemned{d, c.newest})
	}
	return freed, err
}
