package kv

import (
	"context"
	"errors"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// evacuator empties sparse slabs, which deletes and overwrites leave, beside readers and writers.
// So other classes can use them, and their blocks return to the file system.
//
// A record moves by an ordinary transaction: it is written again with its expiry, under a new
// number, and after the fence the index names the new place. So a crash leaves the old place or the
// new one, and R1 to R8 hold as for any put (I8). The evacuator has the turn from the look at the
// index to the publication, so the key points at the old slot all the time. Records that a snapshot
// sees stay: moving them would free nothing. Tombstones do not move; the next checkpoint frees
// them.
//
// An index page moves by being copied, as for a snapshot. That writes nothing before the next
// checkpoint, which also frees the old page.
//
// The evacuator rests until there is enough gain (see waste), moves at most Options.EvacuateBytes a
// second, and has the turn for a few dozen records at a time.
type evacuator struct {
	wake   chan struct{}
	cancel context.CancelFunc
	exited chan struct{}

	together bool // the moves of a step are one transaction

	// The turn guards these:
	waste   waste
	records uint64
	bytes   uint64
	rounds  uint64
}

const (
	stepBytes  = 16 << 10 // approximate bytes moved while the turn is held
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
		_ = db.withTurn(func() error { // an opening may hold it for some time
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

// pace is the rate of moves, in bytes a second; 0: no limit. With beside, moves are also made while
// a writable Tx is open; otherwise they wait for its end.
type pace struct {
	rate   int64
	beside bool
	owed   time.Duration
}

// after waits as long as moving n bytes should have taken. It returns false if ctx has ended.
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

// errResting ends a round early: the store is closed or has failed.
var errResting = errors.New("nvkv: the store takes no writes")

// withTurn runs fn under the turn, if the store takes writes. fn must not publish anything.
func (db *DB) withTurn(fn func() error) (err error) {
	db.turn.visit()
	defer db.turn.give()
	if db.writable() != nil {
		return errResting
	}
	return fn()
}

// moving is withTurn for an fn that changes the published state.
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

// tidy is a round: it empties sparse slabs until enough returns true, which it calls under the
// turn, and gives free slabs back.
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
	if tombs > 0 { // the checkpoint frees their slabs as a whole
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

// inRounds repeats moves that filled the store with copies of index pages, each time after a
// checkpoint, which frees the old pages. Records for which there is no room after that stay.
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

// asked returns the result of fn under the turn, or false if the store takes no writes.
func (db *DB) asked(fn func() bool) (yes bool) {
	_ = db.withTurn(func() error { yes = fn(); return nil })
	return yes
}

func neverEnough() bool { return false }

// emptyRecordSlabs empties the emptiest record slabs, one after the other, slots slots at a time,
// until that frees nothing more or enough returns true, which it calls under the turn.
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

// emptySome moves some records out of a slab, from a slot on. It returns the bytes moved and the
// slot at which to continue. The caller holds the turn.
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

// insidePages runs fn, which reads index pages, in a section like a commit's. The caller holds the
// turn.
func (db *DB) insidePages(fn func() error) (err error) {
	db.lockReaders()
	defer db.unlockReaders()
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	defer db.guarded("evacuate", panicOnFault(true), &err)
	return fn()
}

// scattered says whether the records of a leaf lie so far apart that reading them in order would
// jump. Slots of one size should ascend, slab by slab.
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

// mostMovedSlabs is the largest value, in slabs, that is moved because its end or its record lies
// in a victim.
const mostMovedSlabs = 4

// movable says whether a record is small enough to be moved.
func (db *DB) movable(rec *record.Record) bool {
	return !rec.Spilled() || rec.SpilledBytes() <= int64(mostMovedSlabs*db.r.SlabBytes())
}

// inVictims says whether a run of the record at x lies in a victim and the record is small enough
// to be moved.
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

// discardFree gives the blocks of free slabs back, except a stock.
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
