package kv

import (
	"context"
	"errors"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Deletes and overwrites leave slabs of which little is used. The evacuator
// empties such slabs, beside readers and writers, so that other classes can have
// them and the file system gets their blocks back.
//
// A record moves as an ordinary transaction: it is written again, under a new
// number, with its expiry, and the index shows the new one after the fence. So a
// crash finds the one or the other, and R1 to R8 hold as for any put (I8). The
// turn is held from the look at the index to the publishing, so the key points
// at the old slot all along. What a snapshot sees stays where it is: moving it
// would free nothing. Tombstones do not move; they go with the next checkpoint.
//
// An index page moves by being copied, as it is for a snapshot. That writes
// nothing before the next checkpoint, which also frees the old page.
//
// The evacuator rests until there is something to gain, moves no more bytes a
// second than Options.EvacuateBytes allows, and holds the turn for a few dozen
// records at a time.
type evacuator struct {
	wake   chan struct{}
	cancel context.CancelFunc
	exited chan struct{}

	together bool // a step's moves are one transaction

	// Under the turn.
	waste   waste
	records uint64
	bytes   uint64
	rounds  uint64
}

const (
	stepBytes  = 16 << 10 // moved while the turn is held, about
	stepSlots  = 128
	stepLeaves = 16
)

func (db *DB) startEvacuator() {
	e := &db.evac
	e.together = db.opt.moveTogether || db.fenceIsDear()
	if db.opt.EvacuateBytes < 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.wake, e.exited, e.cancel = make(chan struct{}, 1), make(chan struct{}), cancel
	go func() {
		defer close(e.exited)
		_ = db.withTurn(func() error { // which an opening may hold for a while
			e.waste = waste{low: db.gain(), before: db.gain()}
			db.noteWaste()
			return nil
		})
		for {
			select {
			case <-ctx.Done():
				return
			case <-e.wake:
			}
			if !db.awaitWaste(ctx) {
				continue
			}
			err := db.tidy(ctx, &pace{rate: db.opt.EvacuateBytes}, db.tidyEnough)
			if err != nil && ctx.Err() == nil && !errors.Is(err, errResting) {
				db.opt.Logger.Warn("emptying sparse slabs", "error", err)
			}
		}
	}()
}

func (db *DB) stopEvacuator() {
	if e := &db.evac; e.cancel != nil {
		e.cancel()
		<-e.exited
		e.cancel = nil
	}
}

func (db *DB) wakeEvacuator() {
	select {
	case db.evac.wake <- struct{}{}:
	default: // it is awake, or off
	}
}

// pace is how records are moved: so many bytes a second, the zero value hurries;
// beside a writable Tx that is open too, or after its end.
type pace struct {
	rate   int64
	beside bool
	owed   time.Duration
}

// after waits until the moving of n bytes has taken its time.
func (p *pace) after(ctx context.Context, n int64) bool {
	if p.rate > 0 {
		p.owed += time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
	}
	if p.owed < time.Millisecond {
		return ctx.Err() == nil
	}
	began := time.Now()
	ok := sleep(ctx, p.owed)
	p.owed -= time.Since(began)
	return ok
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// errResting ends a round early: the store is closed or failed.
var errResting = errors.New("nvkv: the store takes no writes")

// withTurn runs fn, which publishes nothing, under the turn, if the store takes
// writes.
func (db *DB) withTurn(fn func() error) (err error) {
	db.turn.visit()
	defer db.turn.give()
	if db.writable() != nil {
		return errResting
	}
	return fn()
}

// moving is withTurn for what changes the published state.
func (db *DB) moving(p *pace, fn func() error) (err error) {
	if p.beside {
		db.turn.visit()
		db.pinWriter()
	} else {
		db.turn.hold()
	}
	defer db.turn.give()
	if db.writable() != nil {
		return errResting
	}
	return fn()
}

// tidy empties sparse slabs until it is enough, which it asks under the turn, and
// gives free ones back.
func (db *DB) tidy(ctx context.Context, p *pace, enough func() bool) (err error) {
	defer func() {
		end := db.withTurn(func() error {
			db.r.ReleaseVictims()
			db.evac.rounds++
			db.tidied()
			return nil
		})
		err = errors.Join(err, end)
	}()
	tombs := 0
	if err := db.withTurn(func() error { tombs = len(db.tombs); return nil }); err != nil {
		return err
	}
	if tombs > 0 { // their slabs come back whole
		if err := db.checkpoint(ctx); err != nil {
			return err
		}
	}
	moved := int64(0)
	err = db.inRounds(ctx, func() error {
		n, err := db.emptyRecordSlabs(ctx, p, stepSlots, enough)
		moved += n
		return err
	})
	if err != nil {
		return err
	}
	index := false
	if !db.asked(enough) {
		err := db.inRounds(ctx, func() (err error) {
			index, err = db.emptyIndexSlabs(ctx, p, db.opt.tidySlack/4)
			return err
		})
		if err != nil {
			return err
		}
	}
	if moved > 0 || index || db.freedSinceFlip() {
		if err := db.checkpoint(ctx); err != nil {
			return err
		}
	}
	return db.discardFree(ctx)
}

// inRounds goes on with moves that filled the store up with copies of index pages,
// which a checkpoint frees. What cannot be moved then, for want of room, stays.
func (db *DB) inRounds(ctx context.Context, move func() error) error {
	for range squeezeRounds {
		err := move()
		if !full(err) {
			return err
		}
		if err := db.checkpoint(ctx); err != nil {
			return err
		}
	}
	return nil
}

// freedSinceFlip says whether a checkpoint would make slabs discardable.
func (db *DB) freedSinceFlip() bool {
	return db.asked(func() bool { return db.sinceCheckpoint > 0 && db.r.Discardable() > 0 })
}

// asked returns what fn says under the turn, or false of a store at rest.
func (db *DB) asked(fn func() bool) (yes bool) {
	_ = db.withTurn(func() error { yes = fn(); return nil })
	return yes
}

func neverEnough() bool { return false }

// emptyRecordSlabs empties the emptiest record slabs, one after the other and so
// many slots at a time, until that gains nothing or enough returns true, which it
// is asked under the turn.
func (db *DB) emptyRecordSlabs(ctx context.Context, p *pace, slots int, enough func() bool) (moved int64, err error) {
	slab, next := 0, -1
	for {
		n, more := int64(0), true
		err := db.moving(p, func() (err error) {
			if next < 0 {
				if slab, more = db.r.TakeSparse(); !more || enough() {
					more = false
					return nil
				}
				next = 0
			}
			n, next, err = db.emptySome(slab, next, slots)
			return err
		})
		if moved += n; err != nil || !more {
			return moved, err
		}
		if !p.after(ctx, n) {
			return moved, ctx.Err()
		}
	}
}

// emptySome moves some records out of a slab, from a slot on, and returns the
// bytes and the slot to go on with. The caller holds the turn.
func (db *DB) emptySome(slab, from, slots int) (n int64, next int, err error) {
	m := mover{db: db, together: slots > squeezeSlots && db.evac.together}
	offs, next := db.r.LiveSlots(slab, from, slots, nil)
	err = db.insidePages(func() error {
		for i, o := range offs {
			if i > 0 && m.bytes() >= stepBytes {
				next = db.r.SlotNumber(o)
				return nil
			}
			if err := m.add(o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	n, err = m.finish()
	return n, next, err
}

// insidePages runs fn, which looks at index pages, as a commit does. The caller
// holds the turn.
func (db *DB) insidePages(fn func() error) (err error) {
	db.lockReaders()
	defer db.unlockReaders()
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	defer db.guarded("evacuate", panicOnFault(true), &err)
	return fn()
}

// mover collects records and writes them again elsewhere: each as a transaction
// of its own, which keeps its size, or, where a fence is dear, all as one, whose
// records are 8 bytes longer and may need a larger slot.
type mover struct {
	db       *DB
	b        Batch
	together bool
}

// fenceIsDear says whether the device is fenced with a system call.
func (db *DB) fenceIsDear() bool {
	switch db.m.Device().Info().Kind {
	case "file", "block":
		return true
	}
	return false
}

func (m *mover) bytes() int64 { return int64(m.b.Size()) }

// add takes a record along, if the index points at it and no snapshot sees it.
func (m *mover) add(o nvmap.Off) (err error) {
	db := m.db
	var rec record.Record
	if db.readRecord(o, &rec) != nil || db.seen(rec.Number) || !db.movable(&rec) {
		return nil // Check names what is damaged
	}
	key, value, err := db.content(&rec)
	if err != nil {
		return nil
	}
	if err := db.ix.Find(key, &db.way); err != nil {
		return err
	}
	if !db.way.Found() || btree.RefOff(db.ix.Old(&db.way)) != o {
		return nil
	}
	if db.off(ruleI8) {
		return db.moveVerbatim(&rec)
	}
	m.b.move(key, value, rec.Expiry)
	return nil
}

// seen says whether a snapshot sees what transaction n wrote. One of a writable Tx
// does not count: it ends soon, and what was moved is freed then.
func (db *DB) seen(n record.Number) bool {
	db.publish.Lock()
	defer db.publish.Unlock()
	h := newestSnapshot(db.holders.newest)
	for h != nil && h.brief {
		h = newestSnapshot(h.older)
	}
	return h != nil && h.number >= n
}

// finish commits what was collected and returns its bytes.
func (m *mover) finish() (int64, error) {
	if m.b.Len() == 0 {
		return 0, nil
	}
	es, err := m.b.entries(nil, m.db.now())
	if err != nil {
		return 0, err
	}
	for i := range es {
		es[i].moved = true
	}
	each := 1
	if m.together {
		each = len(es)
	}
	for i := 0; i < len(es) && err == nil; i += each {
		err = m.db.commitAlone(es[i : i+each])
	}
	if errors.Is(err, ErrFull) {
		m.db.ix.KeepReserved(btree.Stock{}) // others need the room more
	}
	return m.bytes(), err
}

// emptyIndexSlabs empties sparse slabs of index pages, value blocks and runs, in
// one walk along the leaves, and says whether it moved anything. What it leaves
// is freed by the next checkpoint. A kind that wastes no more than slack bytes
// stays as it is.
func (db *DB) emptyIndexSlabs(ctx context.Context, p *pace, slack int64) (moved bool, err error) {
	w := walkRound{db: db}
	err = db.moving(p, func() error {
		for _, k := range []alloc.Kind{alloc.KindPage, alloc.KindBlock, alloc.KindRun} {
			if db.r.Waste(k) <= slack {
				continue
			}
			if n := db.r.TakeSparseOf(k); n > 0 {
				moved = true
				w.runs = w.runs || k == alloc.KindRun
			}
		}
		if moved {
			w.begin()
		}
		return nil
	})
	if err != nil || !moved {
		return false, err
	}
	return true, w.walk(ctx, p, nil)
}

// walkRound goes along the leaves in key order, a stretch at a time, and moves
// what lies in victims: pages, blocks and runs. With order it moves records too,
// leaf by leaf, where they do not lie one after the other.
type walkRound struct {
	db      *DB
	runs    bool // records whose runs lie in victims move
	records bool // and those that lie in victims themselves
	order   bool // and those that are scattered
	keys    int64
	bytes   int64
	grouped int64 // bytes moved since endGroup ended a group
}

// begin makes a new epoch, so that whatever lies in a victim is copied when it
// is owned, and lets go of what is reserved. The caller holds the turn.
func (w *walkRound) begin() {
	db := w.db
	db.publish.Lock()
	defer db.publish.Unlock()
	db.ix.NextEpoch()
	db.dirtySince = true
	db.ix.KeepReserved(btree.Stock{})
}

func (w *walkRound) walk(ctx context.Context, p *pace, told *progress) error {
	from := []byte(nil)
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int64(0)
		err := w.db.moving(p, func() (err error) {
			for range stepLeaves {
				var moved int64
				if from, more, moved, err = w.leaf(from); err != nil || !more {
					return err
				}
				if n += moved; n >= stepBytes {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		w.bytes += n
		if err := w.endGroup(n); err != nil {
			return err
		}
		if told != nil {
			told.tell(w.keys, w.bytes, false)
		}
		if !p.after(ctx, n) {
			return ctx.Err()
		}
	}
	return nil
}

// groupMoves is how many bytes are moved until an open group is ended: the slots that
// they left are free after the fence of the next one.
const groupMoves = 1 << 20

// endGroup ends the open group of relaxed mode after so many bytes more.
func (w *walkRound) endGroup(n int64) error {
	if w.grouped += n; w.grouped < groupMoves || !w.db.group.used.Load() {
		return nil
	}
	w.grouped = 0
	return w.db.syncGroup()
}

// leaf moves what is to be moved of the leaf that key from belongs to, and says
// where the next one begins. The caller holds the turn.
func (w *walkRound) leaf(from []byte) (next []byte, more bool, moved int64, err error) {
	db := w.db
	if err := db.roomFor(4 * db.ix.Height()); err != nil {
		return nil, false, 0, db.fail(err)
	}
	m := mover{db: db, together: db.evac.together}
	err = db.insidePages(func() error {
		if next, more, err = w.relocate(from); err != nil || !w.order && !w.records && !w.runs {
			return err
		}
		stop, err := w.collect(&m, from)
		if stop != nil {
			more = true
			next, err = db.ix.Onward(&db.way, from, stop)
		}
		return err
	})
	if err != nil {
		return nil, false, 0, err
	}
	moved, err = m.finish()
	return next, more, moved, err
}

// relocate copies the pages on the way to from that lie in victims, and the
// leaf's value block.
func (w *walkRound) relocate(from []byte) (next []byte, more bool, err error) {
	db, ix := w.db, &w.db.ix
	if err := ix.Reserve(2*ix.Height()+2, 2, true); err != nil {
		return nil, false, err
	}
	defer ix.KeepStock()
	p := &db.way
	if err := ix.Find(from, p); err != nil {
		return nil, false, err
	}
	err = db.change(func() error { return db.relocateWay(p) })
	if err != nil {
		return nil, false, err
	}
	if next, err = ix.FenceAbove(p, 0); next == nil || err != nil {
		return nil, false, err
	}
	next, err = ix.Onward(p, from, next)
	return next, true, err
}

func (db *DB) relocateWay(p *btree.Path) error {
	if err := db.ix.Relocate(p, db.r.IsVictim); err != nil {
		return db.fail(err)
	}
	db.dirtySince = true
	db.reclaimBeside(1)
	return nil
}

// collect takes along the records of from's leaf that are to move. Where a step
// is full it returns the key to go on with.
func (w *walkRound) collect(m *mover, from []byte) (stop []byte, err error) {
	db, ix := w.db, &w.db.ix
	if err := ix.Find(from, &db.way); err != nil {
		return nil, err
	}
	way := db.way // which the moves that are collected change
	refs := ix.RefsFrom(&way)
	scattered := w.order && db.scattered(refs)
	for i, x := range refs {
		if m.bytes() >= stepBytes {
			stop, err = ix.KeyBehind(&way, i)
			return stop, err
		}
		w.keys++
		if w.moves(x, scattered) {
			if err := m.add(btree.RefOff(x)); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// moves says whether the record at x is to move.
func (w *walkRound) moves(x btree.Ref, scattered bool) bool {
	db := w.db
	victim := w.records && db.r.IsVictim(btree.RefOff(x))
	if x&btree.RefSpill != 0 { // order is no reason to write a large value again
		return w.runs && (victim || db.inVictims(x))
	}
	if victim {
		return true
	}
	return scattered
}

// scattered says whether the records of neighbouring keys lie so far apart that
// reading them in order would jump: slots of one size should ascend, slab by
// slab.
func (db *DB) scattered(refs []btree.Ref) bool {
	var last [256]nvmap.Off // by class
	jumps := 0
	for _, x := range refs {
		if x&btree.RefSpill != 0 {
			continue
		}
		o := btree.RefOff(x)
		c, ok := db.r.ClassOf(o)
		if !ok {
			continue
		}
		if before := last[c]; before != 0 && (o < before || o-before > nvmap.Off(db.r.SlabBytes())) {
			jumps++
		}
		last[c] = o
	}
	return jumps > len(refs)/8+2
}

// mostMovedSlabs is how large a value may be, in slabs, that is moved because
// the end of it lies in a victim, or its record: that takes a slot there.
const mostMovedSlabs = 4

// movable says whether moving a record is not too dear, whatever is gained.
func (db *DB) movable(rec *record.Record) bool {
	return !rec.Spilled() || rec.SpilledBytes() <= int64(mostMovedSlabs*db.r.SlabBytes())
}

// inVictims says whether a run of the record at x lies in a victim, and moving
// the record is not too dear for that.
func (db *DB) inVictims(x btree.Ref) bool {
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil || !db.movable(&rec) {
		return false
	}
	l, _ := db.runs(&rec)
	for o := range record.PagesIn(l.Extents) {
		if db.r.IsVictim(o) {
			return true
		}
	}
	return false
}

// discardFree gives the blocks of free slabs back, but for a stock.
func (db *DB) discardFree(ctx context.Context) error {
	for at := 0; ctx.Err() == nil; {
		first, n := 0, 0
		if f := db.failure.Load(); f != nil {
			return *f
		}
		db.turn.visit()
		first, n, at = db.r.TakeDiscardable(at, db.flippedInterval.Load())
		db.turn.give()
		if n == 0 {
			return nil
		}
		err := db.r.Discard(first, n)
		db.turn.visit()
		db.r.GiveDiscarded(first, n, true)
		db.noteSpace()
		db.turn.give()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
