package kv

import (
	"errors"
	"fmt"
	"slices"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// commit makes the entries durable and visible together, with one fence. In relaxed mode the end of
// the group fences. Ranges come first. The other keys are distinct and, if there are several,
// sorted. The caller holds the turn.
//
// I1. No step that can fail for want of space comes after the first write.
//
// I2. No record of a transaction is written before all records of the one before are fenced.
// Commits are serial, and each ends fenced or fails the store.
//
// I3. The index shows a record only after its fence.
func (db *DB) commit(es []entry) (err error) {
	defer db.guardedCommit(panicOnFault(true), &err)
	if err = db.writable(); err == nil {
		err = db.endGroupBefore()
	}
	if err != nil {
		return err
	}
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	return db.commitInside(es)
}

// commitInside is commit in a section. It defers nothing: with so many ways out of a function that
// costs more.
func (db *DB) commitInside(es []entry) error {
	es, err := db.dropAbsent(es)
	if len(es) == 0 || err != nil {
		return err
	}
	db.noteNeed()
	db.spots.all, db.spots.near = db.spots.all[:0], false
	n, err := db.needFor(es)
	if err != nil {
		return err
	}
	frames := n.Pages + n.Blocks
	private := db.shownAtOnce(es) || frames > db.m.CacheFrames()/8
	if private {
		frames = db.framesOfOne()
	}
	if err := db.roomFor(frames); err != nil {
		return db.fail(err)
	}
	err = db.reserveAndStore(es, n, givesBack(es))
	if full(err) && !db.off(ruleI1) {
		err = db.storeTightly(es, err)
	}
	if err != nil {
		return db.explain(err, es)
	}
	// The descent overlaps the drain of the stores: the fence waits for the stores, but loads do
	// not.
	single := len(es) == 1 && !private && es[0].kind != record.KindRange
	if single {
		es[0].hash = db.askHash(es[0].key)
		if err := db.ix.Find(es[0].key, &db.way); err != nil {
			return db.fail(err)
		}
	} else if !private { // a read that fails later would leave the entries half shown
		if err := db.ix.FetchBlocks(n.Blocks); err != nil {
			return db.fail(err)
		}
	}
	if err := db.endCommit(); err != nil {
		return db.fail(err)
	}
	if single {
		err = db.publishOne(&es[0])
	} else {
		err = db.publishAll(es, private)
	}
	if err != nil {
		return db.fail(err)
	}
	db.ix.KeepStock()
	db.count(es)
	db.pressed()
	return db.countGroup(es)
}

// reserveAndStore reserves all pages and blocks that the publication needs and places all entries,
// before it writes the first one (I1). Then it writes them. With kept it may take pages and blocks
// of the room that is kept for commits that give space back.
func (db *DB) reserveAndStore(es []entry, n btree.Stock, kept bool) error {
	urgent := givesBack(es)
	had, closing := db.ix.Reserved(), db.group.closing
	err := db.ix.Reserve(n.Pages, n.Blocks, kept)
	if db.off(ruleI1) && err == nil {
		if err = db.openGroup(urgent); err == nil {
			return db.storeAsPlaced(es, urgent)
		}
	}
	if err == nil {
		err = db.placeAndClose(es, urgent)
	}
	if err != nil {
		db.takeBack(had, closing)
		return db.refuse(err)
	}
	if err := db.store(es); err != nil {
		return db.fail(err)
	}
	return nil
}

// storeTightly is reserveAndStore for a commit that a full store refused with the error why. It
// reserves what the entries need in this tree. If these are only copies of pages, they may come
// from the kept room: the next checkpoint frees the pages that they replace (A13), unless a
// snapshot pins them.
func (db *DB) storeTightly(es []entry, why error) error {
	n, grows, err := db.planned(es)
	if err != nil {
		return err
	}
	kept := givesBack(es) || !grows && !db.snapshots()
	if len(es) > 1 && kept == givesBack(es) {
		return why // the first attempt had the same plan
	}
	return db.reserveAndStore(es, n, kept)
}

// snapshots says whether there are any snapshots.
func (db *DB) snapshots() bool {
	db.publish.Lock()
	defer db.publish.Unlock()
	return newestSnapshot(db.holders.newest) != nil
}

// placeAndClose places the entries, and then reserves the slot of the group's closing record, which
// is small and fits the remaining room.
func (db *DB) placeAndClose(es []entry, urgent bool) error {
	err := db.place(es, urgent && !moves(es)) // moves find room between existing records
	if err != nil {
		return err
	}
	if err = db.openGroup(urgent); err != nil {
		for i := range es {
			db.unplace(&es[i])
		}
	}
	return err
}

// explain adds to the error of a refused commit that gives space back why it was refused.
func (db *DB) explain(err error, es []entry) error {
	if !full(err) || !givesBack(es) || moves(es) {
		return err
	}
	if len(es) == 1 {
		return fmt.Errorf("%w, and what is kept there for deletes does not hold this one", err)
	}
	return fmt.Errorf("%w, and what is kept there for deletes does not hold %d of them at once: delete in smaller transactions, or a range with DeleteRange", err, len(es))
}

// takeBack returns what a refused commit took. had was reserved before, and closing was the slot
// for the closing record.
func (db *DB) takeBack(had btree.Stock, closing nvmap.Off) {
	if db.group.closing != closing {
		db.account(db.r.Return(db.group.closing))
		db.group.closing = closing
	}
	db.ix.KeepReserved(had)
	db.r.ReleaseEmpty()
}

// guardedCommit is guarded for a commit. After a fault its state is unknown.
func (db *DB) guardedCommit(old bool, err *error) {
	panicOnFault(old)
	if r := recover(); r != nil {
		*err = db.interrupted(r)
	}
}

// givesBack says whether a commit only gives space back: deletes, and moves out of sparse slabs.
func givesBack(es []entry) bool {
	for i := range es {
		if es[i].kind != record.KindDelete && es[i].kind != record.KindRange && !es[i].moved {
			return false
		}
	}
	return true
}

// moves says whether a commit that gives space back moves records.
func moves(es []entry) bool { return es[0].moved }

// dropAbsent removes deletes of absent keys, which need no record: if such a key was deleted
// before, that delete was fenced before it was published. It also removes ranges without keys. It
// does not change es, because a commit that finds the store full is tried again.
func (db *DB) dropAbsent(es []entry) ([]entry, error) {
	n := rangesOf(es)
	cuts, err := db.dropAbsentRanges(es[:n])
	if err != nil {
		return nil, err
	}
	out, err := db.dropAbsentKeys(es[n:])
	switch {
	case n == 0 || err != nil:
		return out, err
	case len(cuts) == n && len(out) == len(es)-n:
		return es, nil
	}
	return append(slices.Clip(cuts), out...), nil
}

func (db *DB) dropAbsentKeys(es []entry) ([]entry, error) {
	out := es
	dropped := false
	for i := range es {
		if es[i].kind == record.KindDelete {
			if err := db.ix.Find(es[i].key, &db.way); err != nil {
				return nil, err
			}
			if !db.way.Found() {
				if !dropped {
					dropped = true
					out = append(make([]entry, 0, len(es)-1), es[:i]...)
				}
				continue
			}
		}
		if dropped {
			out = append(out, es[i])
		}
	}
	return out, nil
}

// framesOfOne returns how many frames the publication of an entry needs at most.
func (db *DB) framesOfOne() int {
	return 4*db.ix.Height() + 4 + 16 + 2*btree.OverflowPages(MaxKeyBytes)
}

// endInside ends the section of a commit.
func (db *DB) endInside() {
	if s := db.inside; s != nil {
		db.inside = nil
		s.LeaveInside()
	}
}

// count updates the counters after a commit.
func (db *DB) count(es []entry) {
	c := &db.counts
	c.commits++
	for i := range es {
		e := &es[i]
		n := int64(e.rec)
		for _, x := range e.extents {
			n += x.Bytes
		}
		db.sinceCheckpoint += n
		c.recordBytes += uint64(n)
		switch {
		case e.moved:
			db.evac.records++
			db.evac.bytes += uint64(n)
		case e.kind == record.KindRange:
			c.deletes += uint64(e.cut.Keys())
			c.userBytes += uint64(e.bodyBytes())
		case e.kind == record.KindDelete:
			c.deletes++
			c.userBytes += uint64(len(e.key))
		default:
			c.puts++
			c.userBytes += uint64(e.bodyBytes())
		}
	}
	if db.evac.wake != nil {
		db.noteWaste()
	}
	if db.counter >= db.opt.renewAt && db.run < record.MaxRun {
		db.behind.Store(true) // until a freeze has begun the next run
		return
	}
	if db.sinceCheckpoint < db.opt.CheckpointBytes {
		return
	}
	if every := db.checkpointEvery(); db.sinceCheckpoint >= every {
		db.wakeCheckpointer()
		// R11: a writer two intervals past the last freeze waits for one.
		db.behind.Store(db.sinceCheckpoint >= 2*every && !db.off(ruleR11))
	}
}

// checkpointEvery returns how many bytes of records are written between two checkpoints: twice the
// bytes of the index, within the bounds of the options. A checkpoint writes most of the index if
// the keys are random, so it writes a bounded number of bytes for each byte of a record. The caller
// holds the turn.
func (db *DB) checkpointEvery() int64 {
	index := db.r.LiveIn(alloc.KindPage) + db.r.LiveIn(alloc.KindBlock)
	return max(db.opt.CheckpointBytes, min(2*index, db.opt.checkpointMost))
}

// refuse returns err if the store is full. Otherwise growth has met a failing device, and the store
// fails: carvings that the next fence would cover may never be durable.
func (db *DB) refuse(err error) error {
	if errors.Is(err, ErrFull) {
		return err
	}
	return db.fail(err)
}

// fail makes the store refuse writes until it is opened again (R15), because the contents of the
// medium are unknown. It returns the error for the caller.
func (db *DB) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if db.off(ruleR15) {
		return err
	}
	if db.failure.CompareAndSwap(nil, &err) {
		db.events.leave()
	}
	return err
}

// writable returns why the store refuses writes, or nil.
func (db *DB) writable() error {
	switch {
	case db.closed.Load():
		return ErrClosed
	case db.opt.ReadOnly:
		return ErrReadOnly
	}
	if f := db.failure.Load(); f != nil {
		return *f
	}
	return nil
}
