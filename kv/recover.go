package kv

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// recovered is the result of an opening.
type recovered struct {
	began    time.Time
	took     time.Duration // until Open could return
	scanned  int64         // bytes of slabs that were read
	replayed int64         // records applied to the index
	void     int64         // records of a transaction that is not complete
	damaged  []CorruptError
}

// recovery brings the index from the last checkpoint to the last complete transaction. Several
// goroutines share reading and searching; one goroutine changes the tree.
type recovery struct {
	db        *DB
	st        state
	route     btree.Route
	salvagers []salvager
	last      []*candidate         // records of the highest transaction, by ordinal
	highest   record.Number        // newest transaction of the run that died; 0 if it wrote none
	void      bool                 // the highest transaction is not complete
	bare      map[nvmap.Off][]byte // keys of candidates whose keys are not in their slots
	heldRuns  []alloc.Extent       // of lists and keys for the next recovery, see addRotten
	ranges    *ranges
	deleted   []deletedRange
	bytes     int64
}

func (db *DB) recover() error {
	st, err := readState(db.r)
	if err != nil {
		return err
	}
	rc := &recovery{db: db, st: st}
	db.r.SetInterval(st.interval)
	db.flippedInterval.Store(st.interval)
	if err := rc.loadTree(); err != nil {
		return err
	}
	if st.clean && db.r.SlabCount() >= db.opt.lateFrom {
		return rc.openLate()
	}
	if err := db.r.ReadSlabs(); err != nil {
		return err
	}
	if err := rc.scan(); err != nil {
		return err
	}
	rc.decide()
	if err := rc.findRotten(); err != nil {
		return err
	}
	if err := rc.persist(); err != nil {
		return err
	}
	rc.readRanges()
	if rc.mayReplayLate() {
		return rc.replayLate()
	}
	if err := rc.finish(); err != nil {
		return err
	}
	db.start()
	return nil
}

// finish replays the candidates into the tree and makes the store writable.
func (rc *recovery) finish() error {
	if err := rc.replay(); err != nil {
		return err
	}
	rc.db.ix.KeepStock() // that the replay borrowed
	rc.db.noteNeed()
	rc.db.noteSpace()
	if rc.db.off(ruleR4) && rc.st.run != 0 {
		return rc.resumeRun()
	}
	return rc.beginRun()
}

// defaultLateFrom is the number of slabs, or of records to replay, from which an opening returns
// before everything is read or replayed. Reading the metadata of a slab takes 0.2 us, replaying a
// record about as long.
const defaultLateFrom = 2048

// openLate opens a store that was closed and needs no recovery, in time that does not depend on its
// size. Only writers need the metadata of the slabs. A goroutine reads it and has the writer's turn
// meanwhile.
func (rc *recovery) openLate() error {
	db := rc.db
	db.turn.hold()
	err := rc.persist()
	if err == nil {
		err = rc.beginRun()
	}
	if err != nil {
		db.turn.give()
		return err
	}
	db.late = make(chan struct{})
	db.start()
	db.turn.pass(func() {
		err := rc.loadLate()
		if err == nil {
			db.r.Ready()
			db.noteNeed()
			db.noteSpace()
		} else {
			err = db.fail(err)
		}
		db.turn.give()
		close(db.late)
		db.logOpening("reading the slabs", err)
	})
	return nil
}

func (rc *recovery) loadLate() (err error) {
	defer rc.db.guarded("open", panicOnFault(true), &err)
	if err := rc.db.r.ReadSlabs(); err != nil {
		return err
	}
	return rc.loadMaps()
}

// loadMaps loads the last checkpoint's maps of used slots.
func (rc *recovery) loadMaps() error {
	r := rc.db.r
	digest, unclean, err := r.LoadMaps(rc.st.maps)
	if err != nil || digest == rc.st.digest {
		return err
	}
	r.ForgetMaps(unclean)
	if rc.st.root == 0 {
		return nil // there is no checkpoint yet, so nothing is reached
	}
	return rc.decideMaps()
}

// loadTree opens the tree of the last checkpoint.
func (rc *recovery) loadTree() error {
	db, st := rc.db, &rc.st
	db.visible, db.frozenLast = st.last, st.last
	if st.root != 0 {
		db.keys = st.keys
	}
	err := db.ix.Open(btree.State{Root: st.root, RootBirth: st.rootBirth, Height: int(st.height), Leaves: int(st.leaves), HasLong: st.hasLong}, st.epoch+1)
	if err != nil || st.root == 0 {
		return err
	}
	db.checkpoints.current = &holder{root: st.root, epoch: st.epoch, number: st.last}
	db.holders.push(db.checkpoints.current)
	return nil
}

// decideMaps computes the maps from the index, because some maps on the medium are lost.
func (rc *recovery) decideMaps() error {
	db := rc.db
	take := func(o nvmap.Off, k alloc.Kind) error {
		if i := db.r.SlabOf(o); i < 0 || i >= db.r.SlabCount() {
			return &CorruptError{Off: uint64(o), Structure: "reference, outside all slabs,"}
		}
		if _, _, ok := db.r.Carve(o, k); !ok && (k == alloc.KindRecord || k == alloc.KindRun) {
			return nil // superseded since, and its slab was carved again
		}
		if err := db.r.Claim(o, k); err != nil {
			return err
		}
		return db.r.SetLive(o)
	}
	return db.reach(rc.st.root, nil, take, func(e alloc.Extent) error {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if err := take(o, alloc.KindRun); err != nil {
				return err
			}
		}
		return nil
	})
}

// decide finds the highest transaction of the run that died, and whether it is complete. Commits
// are serial, so only the highest one can be incomplete. Decisions about earlier runs stay (R4).
func (rc *recovery) decide() {
	highest := record.Number(0)
	for i := range rc.salvagers {
		highest = max(highest, rc.salvagers[i].highest)
	}
	if highest.Run() == rc.st.run {
		rc.highest = highest
	}
	rc.each(func(c *candidate) {
		if c.number == rc.highest {
			rc.last = append(rc.last, c)
		} else if c.kind == record.KindClose {
			c.kind = kindVoid // its group was decided to be complete
		}
	})
	slices.SortFunc(rc.last, func(a, b *candidate) int { return cmp.Compare(a.ordinal, b.ordinal) })
	if len(rc.last) == 0 || rc.whole(rc.last) {
		return
	}
	rc.void = true
	rc.db.recovered.void = int64(len(rc.last))
	for _, c := range rc.last {
		c.kind = kindVoid
	}
	rc.last = nil
}

// whole says whether all records of a transaction are there, with their runs. For a group only the
// closing record has the count.
func (rc *recovery) whole(t []*candidate) bool {
	group := t[len(t)-1].kind == record.KindClose
	for i, c := range t {
		var rec record.Record
		if rc.db.readRecord(c.off, &rec) != nil || c.ordinal != uint32(i) {
			return false
		}
		want := uint32(len(t))
		if group && c.kind != record.KindClose {
			want = 0
		}
		if rec.Count != want && !(rec.Count == 0 && rc.db.off(ruleI11)) {
			return false
		}
		if rec.Spilled() && (!rc.carvedRuns(&rec) || !rc.db.runsWhole(&rec)) {
			return false
		}
	}
	return true
}

// carvedRuns says whether the slabs of a record's runs are carved for runs. The same fence as for
// the record covers their descriptors.
func (rc *recovery) carvedRuns(rec *record.Record) bool {
	l, err := rc.db.runs(rec)
	if err != nil || len(rc.inside(l.Extents)) < len(l.Extents) {
		return false
	}
	for o := range record.PagesIn(l.Extents) {
		if _, _, ok := rc.db.r.Carve(o, alloc.KindRun); !ok {
			return false
		}
	}
	return true
}

// lastCounter returns the last counter that counts for the run that died.
func (rc *recovery) lastCounter() uint64 {
	switch {
	case rc.highest == 0:
		return 0
	case rc.void:
		return rc.highest.Counter() - 1
	}
	return rc.highest.Counter()
}

// persist writes again, unchanged and in place, the bytes that this recovery relies on and that may
// be visible without being durable: after a process was killed, or after a failed fence that left
// its pages marked clean (R12).
func (rc *recovery) persist() error {
	db := rc.db
	if db.writesNothing() || db.off(ruleR12) {
		return nil
	}
	for _, c := range rc.last {
		if err := rc.rewrite(c); err != nil {
			return err
		}
	}
	return db.r.RewriteSuper() // its fences cover the records too
}

func (rc *recovery) rewrite(c *candidate) error {
	db := rc.db
	if err := db.r.Touch(c.off); err != nil {
		return err
	}
	if c.flags&record.FlagSpill != 0 {
		var rec record.Record
		if err := db.readRecord(c.off, &rec); err != nil {
			return err
		}
		l, err := db.runs(&rec)
		if err != nil {
			return err
		}
		for _, e := range l.Extents {
			if err := rc.rewriteRun(e); err != nil {
				return err
			}
		}
	}
	return db.m.Write(c.off, bytes.Clone(db.bytesAt(c.off, int(c.bytes))))
}

// rewriteRun writes a run again, with the descriptors of its slabs.
func (rc *recovery) rewriteRun(e alloc.Extent) error {
	db := rc.db
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if err := db.r.Touch(o); err != nil {
			return err
		}
	}
	return db.m.Write(e.Off, bytes.Clone(db.bytesAt(e.Off, int(e.Bytes))))
}

// writesNothing says whether this is a read-only opening (R14).
func (db *DB) writesNothing() bool { return db.opt.ReadOnly && !db.off(ruleR14) }

func (rc *recovery) damage(o nvmap.Off, what string, key []byte) {
	d := CorruptError{Off: uint64(o), Structure: what, Key: bytes.Clone(key)}
	rc.db.recovered.damaged = append(rc.db.recovered.damaged, d)
}

// beginRun begins a new run for this opening. So the next recovery cannot mistake records that an
// earlier run wrote or that were voided for records of this run (R4).
func (rc *recovery) beginRun() error {
	db, st := rc.db, rc.st
	db.dirtySince = true
	if !db.off(ruleR11) {
		db.sinceCheckpoint = rc.bytes
	}
	db.checkpoints.base = rc.st
	if db.writesNothing() {
		return nil
	}
	if st.run >= record.MaxRun {
		return errRunsEnded
	}
	if st.run != 0 {
		st.ended = append(slices.Clone(st.ended), endedRun{st.run, rc.lastCounter()})
	}
	st.run++
	st.clean = st.clean && db.off(ruleI10)
	db.run, db.counter = st.run, 0
	if err := db.r.WriteSuper(st.encode()); err != nil {
		return err
	}
	db.visible = record.MakeNumber(db.run, 0)
	db.checkpoints.base = st
	if len(st.ended) >= checkpointAt {
		return db.checkpoint(context.Background())
	}
	return nil
}
