package kv

import (
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// publishOne shows a single record. The tree has not changed since db.way was found. The epoch may
// have changed, and every change checks it.
func (db *DB) publishOne(e *entry) error {
	return db.change(func() error {
		l := db.hash.index.Lock(e.hash)
		if err := db.apply(e, &db.way); err != nil {
			return err
		}
		if !db.off(ruleI21) {
			db.hashFollows(e, &l)
		}
		l.Unlock()
		db.published(1)
		return nil
	})
}

// defaultPrivateFrom is the number of records from which a commit is shown by a root swap. Fewer
// records are shown one by one under the store-wide counter, and point reads wait meanwhile. If the
// records lie far apart, a root swap copies 5 KiB, a leaf and its block, for nearly every one. This
// cost determined the number; it was not measured by itself.
const defaultPrivateFrom = 1024

// shownAtOnce says whether es are shown by a root swap: if there are many, or pages leave as a
// whole.
func (db *DB) shownAtOnce(es []entry) bool {
	n := len(es)
	for i := range es[:rangesOf(es)] {
		if es[i].cut.Whole() {
			return true
		}
		n += es[i].cut.Single()
	}
	return n >= db.opt.privateFrom
}

func (db *DB) publishAll(es []entry, private bool) error {
	if private {
		return db.publishBeside(es)
	}
	return db.change(func() error {
		db.hash.index.Changing()
		db.showing.Add(1)
		n := len(es)
		for i := range es {
			if err := db.publishAt(&es[i], db.spots.of(i, len(es), &db.ix)); err != nil {
				return err
			}
			if es[i].kind == record.KindRange {
				n += es[i].cut.Single()
			}
		}
		db.hashFollow(es)
		db.showing.Add(1)
		db.published(n)
		return nil
	})
}

// publishAt is publishEntry for an entry whose spot is known; nil: it is not.
func (db *DB) publishAt(e *entry, s *btree.Spot) error {
	if s != nil && e.kind == record.KindPut {
		old, ok, err := db.ix.UpdateAt(s, e.ref())
		if err != nil {
			return err
		}
		if ok {
			db.reached(e)
			e.was = old
			db.replacedRecords = append(db.replacedRecords, old)
			return nil
		}
	}
	return db.publishEntry(e)
}

// publishEntry shows an entry in the tree. Of a range it removes the keys that do not leave with
// whole pages.
func (db *DB) publishEntry(e *entry) error {
	if e.kind == record.KindRange {
		db.spots.near = false
		db.bury(e)
		return db.cutRest(e.cut)
	}
	near := db.spots.near
	db.spots.near = e.kind == record.KindPut // a delete may merge pages
	if near {
		if err := db.ix.FindNext(e.key, &db.way); err != nil {
			return err
		}
	} else if err := db.ix.Find(e.key, &db.way); err != nil {
		return err
	}
	return db.apply(e, &db.way)
}

// published ends a publication of n entries: records that left the tree may be freed now.
func (db *DB) published(n int) {
	db.nowVisible()
	for _, x := range db.replacedRecords {
		db.supersede(x, db.holders.newest)
	}
	db.replacedRecords = db.replacedRecords[:0]
	db.reclaimBeside(n)
}

func (db *DB) nowVisible() {
	db.visible = record.MakeNumber(db.run, db.counter)
	db.dirtySince = true
}

// apply changes the index by one entry.
func (db *DB) apply(e *entry, p *btree.Path) error {
	if e.kind == record.KindDelete {
		if !p.Found() { // it existed when the commit began
			return db.ix.Misplaced(p)
		}
		old, err := db.ix.Remove(p)
		if err != nil {
			return err
		}
		db.keys--
		db.bury(e)
		e.was = old
		db.replacedRecords = append(db.replacedRecords, old)
		return nil
	}
	db.reached(e)
	if !p.Found() {
		db.keys++
		e.was = 0
		return db.ix.Insert(e.key, e.ref(), p)
	}
	old, err := db.ix.Update(p, e.ref())
	if err == nil {
		e.was = old
		db.replacedRecords = append(db.replacedRecords, old)
	}
	return err
}

// reached notes that the index reaches a put from now on.
func (db *DB) reached(e *entry) {
	db.account(db.r.SetLive(e.off))
	for _, x := range e.extents {
		db.account(db.r.SetLiveRun(x))
	}
	db.sweep.expires(e.key, e.expiry)
}

// bury keeps a tombstone of a key or of a range: used, not live, until a checkpoint frozen later
// has flipped (R6).
func (db *DB) bury(e *entry) {
	if db.off(ruleR6) {
		db.replacedRecords = append(db.replacedRecords, e.ref())
		return
	}
	db.tombs = append(db.tombs, e.ref())
}
