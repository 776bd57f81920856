package kv

import (
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A large commit is built beside the published tree and shown by storing one root. It holds publish
// for that instant only. Meanwhile readers continue, snapshots are opened and closed, and all of
// them see the state before the commit.
//
// Afterwards the pages and records that the build replaced are released, some at a time. The
// snapshots that existed at that instant decide which of them stay pinned; later snapshots cannot
// see them.

// building is the state of a build beside the published tree. The turn guards it.
type building struct {
	keys int64       // of the published state; writes also need publish
	cut  []condemned // pages that leave the tree with everything below them
}

// publishBeside publishes es as a build beside the published tree.
func (db *DB) publishBeside(es []entry) error {
	db.beginBeside()
	return db.changeBeside(func() error {
		if err := db.build(es); err != nil {
			return err
		}
		db.opt.reach(atBuilt)
		newest := db.endBeside(es)
		for db.letGo(newest) {
		}
		db.wakeReclaimer() // a range leaves more to free
		return nil
	})
}

// beginBeside begins an epoch for the build. A snapshot that is opened before the build is shown
// gets the epoch before, so it sees no page of the build.
func (db *DB) beginBeside() {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.beside.keys = db.keys
	db.ix.BeginPrivate()
	db.dirtySince = false
}

// build changes the tree beside the published one. The whole pages of all ranges leave first: the
// other changes could otherwise change the pages that were surveyed.
func (db *DB) build(es []entry) error {
	for i := range es[:rangesOf(es)] {
		if err := db.buildStep(&es[i], db.detachAll); err != nil {
			return err
		}
	}
	for i := range es {
		if i+askAhead < len(es) {
			btree.AskKey(es[i+askAhead].key)
		}
		if err := db.buildStep(&es[i], db.publishEntry); err != nil {
			return err
		}
	}
	return nil
}

// buildStep calls step for an entry, after it has made room for the frames that the step needs at
// most.
func (db *DB) buildStep(e *entry, step func(*entry) error) error {
	frames := db.framesOfOne()
	if e.kind == record.KindRange {
		frames = db.ix.NeedOfCut().Frames()
	}
	if err := db.roomFor(frames); err != nil {
		return err
	}
	db.lockSeal()
	defer db.unlockSeal()
	return step(e)
}

// endBeside shows the build. It returns the newest holder that can see what the build replaced.
// The hash table is shut meanwhile, and until it has followed.
func (db *DB) endBeside(es []entry) (newest *holder) {
	cut := len(db.beside.cut) > 0
	t, newest := db.swap()
	if cut && !db.off(ruleI21) {
		t.Clear()
		db.wakeHash()
	}
	db.hashFollow(es)
	t.Open()
	return newest
}

// swap stores the root of a build.
func (db *DB) swap() (t *hashindex.Table, newest *holder) {
	db.publish.Lock()
	defer db.publish.Unlock()
	t = db.hash.index.Shut()
	db.ix.PublishPrivate()
	db.nowVisible()
	for _, c := range db.beside.cut {
		c.newest = db.holders.newest
		db.holders.cut = append(db.holders.cut, c)
	}
	db.beside.cut = nil
	return t, db.holders.newest
}

// letGo frees some of the things that a build replaced and that no holder sees. It says whether
// more remain. newest is the newest holder that may see them.
func (db *DB) letGo(newest *holder) (more bool) {
	db.publish.Lock()
	defer db.publish.Unlock()
	for newest != nil && newest.gone {
		newest = newest.older
	}
	left := db.ix.LetGo(reclaimMost, func(o nvmap.Off, birth uint64) { db.retirePage(o, birth, newest) })
	records := db.replacedRecords[max(0, len(db.replacedRecords)-reclaimMost):]
	for _, x := range records {
		db.supersede(x, newest)
	}
	db.replacedRecords = db.replacedRecords[:len(db.replacedRecords)-len(records)]
	db.reclaim(reclaimMost)
	return left+len(db.replacedRecords) > 0
}

// keysShown returns the number of keys of the published state. The caller holds publish.
func (db *DB) keysShown() int64 {
	if db.ix.Private() {
		return db.beside.keys
	}
	return db.keys
}
