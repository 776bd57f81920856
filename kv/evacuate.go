package kv

import (
	"context"
	"errors"
	"time"

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
