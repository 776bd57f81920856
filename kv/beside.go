package kv

import "nvkv/nvmap"

import "nvkv/kv/internal/record"

// A large commit is built beside the published tree and shown by storing one root.
// It takes publish for that instant only: meanwhile readers go on, snapshots are
// opened and closed, and all of them see the state before.
//
// What the build took out of the published tree is let go of afterwards, a little at a
// time. Who sees it is settled by the snapshots that there were at that instant, and
// not by those that are opened since.

// building is what belongs to a build under way. Under the turn.
type building struct {
	keys int64       // of the published state; written under publish too
	cut  []condemned // pages that leave the tree with all that they name
}

// publishBeside shows es.
func (db *DB) publishBeside(es []entry) error {
	db.beginBeside()
	return db.changeBeside(func() error {
		if err := db.build(es); err != nil {
			return err
		}
		db.opt.reach(atBuilt)
		newest := db.endBeside()
		for db.letGo(newest) {
		}
		db.wakeReclaimer() // a range leaves more
		return nil
	})
}

// beginBeside begins an epoch of the build's own. A snapshot that is opened from now
// on, until the build is shown, belongs to the one before: nothing of it was born later.
func (db *DB) beginBeside() {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.beside.keys = db.keys
	db.ix.BeginPrivate()
	db.dirtySince = false
}

// build changes the tree beside the published one. All whole pages that leave with
// ranges do so first: what is done for one range may else change those of another.
func (db *DB) build(es []entry) error {
	for i := range es[:rangesOf(es)] {
		if err := db.buildStep(&es[i], db.detachAll); err != nil {
			return err
		}
	}
	for i := range es {
		if err := db.buildStep(&es[i], db.publishEntry); err != nil {
			return err
		}
	}
	return nil
}

// buildStep does a step for an entry, with room for the frames that it takes at most.
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

// endBeside shows the build, and returns the newest of those that see what it took out.
func (db *DB) endBeside() (newest *holder) {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.ix.PublishPrivate()
	db.nowVisible()
	for _, c := range db.beside.cut {
		c.newest = db.holders.newest
		db.holders.cut = append(db.holders.cut, c)
	}
	db.beside.cut = nil
	return db.holders.newest
}

// letGo frees some of what a build took out and nobody sees, and says whether there is
// more. newest is the newest that may see it.
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

// keysShown returns how many keys the published state has. The caller has publish.
func (db *DB) keysShown() int64 {
	if db.ix.Private() {
		return db.beside.keys
	}
	return db.keys
}
