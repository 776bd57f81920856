package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wantNobodyWaits checks that no writer is in the queue. Guests of the background may be.
func wantNobodyWaits(t *testing.T, db *DB) {
	t.Helper()
	db.turn.mu.Lock()
	defer db.turn.mu.Unlock()
	for _, o := range db.turn.queue {
		if !o.guest {
			t.Error("a writer is left in the queue")
		}
	}
	if int(db.turn.queued.Load()) != len(db.turn.queue) {
		t.Errorf("%d wait, and %d are counted", len(db.turn.queue), db.turn.queued.Load())
	}
}

// A call whose context has ended, or ends while it waits, runs no fn and changes nothing. Afterwards
// the turn is free.
func TestUpdateContextGivesUp(t *testing.T) {
	db := openMem(t)
	never := func(*Tx) error { t.Error("fn ran"); return nil }
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, "ended before", db.UpdateContext(ended, never), context.Canceled)

	why := errors.New("why")
	for name, wait := range map[string]func() (let func()){
		"an open Tx": func() func() {
			tx, err := db.Begin(true)
			must(t, err)
			return func() { must(t, tx.Rollback()) }
		},
		"a commit": func() func() { db.turn.hold(); return func() { db.turn.give() } },
	} {
		let := wait()
		ctx, cancel := context.WithCancelCause(context.Background())
		done := make(chan error)
		go func() { done <- db.UpdateContext(ctx, never) }()
		awaitQueued(t, db, 1)
		cancel(why)
		err := <-done
		wantErr(t, name, err, context.Canceled)
		wantErr(t, "the cause, behind "+name, err, why)
		wantNobodyWaits(t, db)
		let()
		must(t, db.Put([]byte("k"), []byte(name)))
	}
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	db.turn.hold()
	wantErr(t, "a deadline", db.UpdateContext(short, never), context.DeadlineExceeded)
	db.turn.give()
}

// What else Update does, UpdateContext does too.
func TestUpdateContext(t *testing.T) {
	db := openMem(t)
	ctx, cancel := context.WithCancel(context.Background())
	must(t, db.UpdateContext(ctx, func(tx *Tx) error {
		cancel() // too late
		wantErr(t, "nested", db.UpdateContext(context.Background(), func(*Tx) error { return nil }), ErrNested)
		return tx.Put([]byte("a"), []byte("1"))
	}))
	//lint:ignore SA1012 a nil context never ends
	must(t, db.UpdateContext(nil, func(tx *Tx) error { return tx.Put([]byte("b"), []byte("2")) }))
	wantErr(t, "an error of fn", db.UpdateContext(context.Background(), func(tx *Tx) error {
		must(t, tx.Put([]byte("c"), nil))
		return errWanted
	}), errWanted)
	wantErr(t, "no fn", db.UpdateContext(context.Background(), nil), errNil)
	model{"a": "1", "b": "2"}.compare(t, db)
	// It waits its turn like others, and is served in order.
	db.turn.hold()
	done := make(chan error)
	live, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		done <- db.UpdateContext(live, func(tx *Tx) error { return tx.Put([]byte("c"), []byte("3")) })
	}()
	awaitQueued(t, db, 1)
	db.turn.give()
	must(t, <-done)
	model{"a": "1", "b": "2", "c": "3"}.compare(t, db)
	must(t, db.Close())
	wantErr(t, "closed", db.UpdateContext(context.Background(), func(*Tx) error { return nil }), ErrClosed)
	path := filepath.Join(testDir(t), "s")
	must(t, openTest(t, path, nil).Close())
	db = openTest(t, path, &Options{ReadOnly: true})
	wantErr(t, "read-only", db.UpdateContext(context.Background(), func(*Tx) error { return nil }), ErrReadOnly)
}

// It gives up waiting for a checkpoint that writers wait for, and the store takes one later.
func TestUpdateContextBehind(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a")
	db.behind.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, "behind", db.UpdateContext(ctx, func(*Tx) error { t.Error("fn ran"); return nil }), context.Canceled)
	must(t, db.writable())
	must(t, db.UpdateContext(context.Background(), func(tx *Tx) error { return tx.Put([]byte("b"), nil) }))
	if db.behind.Load() {
		t.Error("no checkpoint was taken")
	}
}

// Both orders of a cancellation and of the hand-over of the turn, step by step: an op that was taken
// off the queue has the turn, and gives it on.
func TestUpdateContextHandOver(t *testing.T) {
	db := openMem(t)
	for _, first := range []string{"withdrawn", "handed over"} {
		db.turn.hold()
		o := getOp()
		o.hold = true
		db.turn.enqueue(o)
		o.state.Store(opParked) // as waitContext does before it looks at the context
		if first == "withdrawn" {
			wantBool(t, "withdraw", db.turn.withdraw(o), true)
			db.turn.give()
		} else {
			db.turn.give()
			wantBool(t, "withdraw", db.turn.withdraw(o), false)
			wantBool(t, "it leads", o.lead, true)
			db.turn.give()
		}
		wantNobodyWaits(t, db)
		must(t, db.Put([]byte(first), nil)) // the turn is free
		putOp(o)
	}
}

// Cancellations at random moments beside commits, transactions and guests: each call either runs fn
// and commits, or neither. The turn is never lost and never had twice.
func TestUpdateContextRaces(t *testing.T) {
	const workers, rounds = 6, 400
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 16 << 20, CheckpointBytes: 32 << 10, SlabBytes: 4096})
	var done, gaveUp atomic.Int64
	var inside atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			mine := 0
			key := fmt.Appendf(nil, "worker%d", w)
			for range rounds {
				ctx, cancel := context.WithCancel(context.Background())
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					for range rng.IntN(2000) {
						inside.Load() // passes the time
					}
					cancel()
				}()
				ran := false
				err := db.UpdateContext(ctx, func(tx *Tx) error {
					ran = true
					if inside.Add(1) != 1 {
						t.Error("two transactions at once")
					}
					defer inside.Add(-1)
					return tx.Put(key, fmt.Append(nil, mine+1))
				})
				<-stopped
				switch {
				case err == nil && ran:
					mine++
					done.Add(1)
				case errors.Is(err, context.Canceled) && !ran:
					gaveUp.Add(1)
				default:
					t.Errorf("fn ran: %v, and the call returned %v", ran, err)
				}
				if w == 0 {
					must(t, db.Put([]byte("put"), nil))
					db.Metrics() // a guest
				}
			}
			wantGet(t, db.Get, string(key), fmt.Sprint(mine), mine > 0)
		})
	}
	wg.Wait()
	t.Logf("%d committed, %d gave up", done.Load(), gaveUp.Load())
	wantNobodyWaits(t, db)
	must(t, db.Put([]byte("put"), nil)) // the turn is free
}
