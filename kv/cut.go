package kv

import (
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A range of keys leaves the index in whole pages where it can. Beside the
// published tree every stretch of children whose keys all lie in the range gives
// way to one empty child; only what its first and last leaf have of it goes key by
// key. One root swap then shows all of it at an instant. So a writer waits for a
// few pages and for a look at every leaf, and not for every key.
//
// A transaction has its ranges first, and no two of them overlap. Of all of them the
// whole pages leave first, then the single keys; so what was surveyed of one is as it
// was when its turn comes, because only single keys make pages merge.
//
// What hung on the tree there is dismantled afterwards, a little at a time: records,
// value blocks, pages. Until then their slots are live to the allocator and
// nobody reaches them, so a freeze dismantles what is left before it copies the
// maps (R10). A crash before that finds the last checkpoint's tree and the
// range's record, and replays it.

// condemned is a page that left the tree with all that it names.
type condemned struct {
	btree.Detached

	// newest of the holders that there were when it left: none that was opened later
	// sees it. It may be gone by now.
	newest *holder
}

// DeleteRange removes the keys of [start, end), all at one instant. A nil end
// is open; where start is not below end there is nothing to do. It costs one
// record and one fence. Other writers wait while the pages that lie in the range
// are counted, readers do not wait; what they hold is freed afterwards, by and by.
// It waits for its turn as a writable transaction does.
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

// rangeEntry returns the entry of a range, whose image has its start, which is key, and
// its end.
func rangeEntry(image, key []byte, open bool) entry {
	var end []byte
	if !open {
		end = image[record.MaxHeaderBytes+len(key):]
	}
	return entry{kind: record.KindRange, open: open, image: image, key: key, cut: btree.NewCutting(key, end)}
}

// rangesOf returns how many ranges es begins with. There are no others in it.
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

// survey reads every page that is to leave whole, and counts the keys: nothing of that
// may fail once the range's record is stored.
func (db *DB) survey(c *btree.Cutting) error { return db.ix.Survey(c, &db.way) }

// detachAll takes the whole pages of a range out of the tree that is being built beside
// the published one.
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

// cutRest takes the keys of a range out that did not leave with whole pages.
func (db *DB) cutRest(c *btree.Cutting) error {
	return db.ix.CutRest(c, &db.way, func(x btree.Ref) {
		db.keys--
		db.replacedRecords = append(db.replacedRecords, x)
	})
}

// dismantle frees what condemned pages hold, at most so many pages and records, but
// for pages that hold long keys, and says how many it was less. The caller holds the turn and publish.
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
			_ = db.fail(err) // it was read when it was surveyed
			l.cut = nil
		}
		most -= n
	}
	return most
}

// dismantleSome is dismantle, and says whether there is more. The caller holds the turn.
func (db *DB) dismantleSome() (more bool) {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.dismantle(reclaimMost)
	return len(db.holders.cut) > 0
}

// dismantlePage frees a page, most of the records of a leaf before it. The pages below
// an inner page are condemned.
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
