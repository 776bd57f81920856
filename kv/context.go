package kv

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"nvkv/kv/internal/locks"
)

// UpdateContext is Update that gives up when ctx ends while the call waits: for its turn among the
// writers, for a checkpoint that it takes itself, or for the replay of an opening. It awaits the end
// of a checkpoint that another goroutine is taking. When it gives up fn is not called, nothing is
// changed, and the error wraps that of ctx and its cause. Once fn has been called ctx has no effect
// any more: a transaction that has begun ends as in Update. A nil ctx never ends.
func (db *DB) UpdateContext(ctx context.Context, fn func(*Tx) error) error {
	return db.update(orBackground(ctx), fn)
}

// gaveUp returns the error of a call that stopped waiting because ctx ended.
func gaveUp(ctx context.Context, what string) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return fmt.Errorf("nvkv: gave up waiting for %s: %w", what, err)
	}
	return fmt.Errorf("nvkv: gave up waiting for %s: %w: %w", what, err, cause)
}

// enterCallContext is enterCall that gives up when ctx ends.
func (db *DB) enterCallContext(ctx context.Context) (*call, error) {
	if in := db.interim.Load(); in != nil && ctx.Done() != nil {
		select {
		case <-in.done:
		case <-ctx.Done():
			return nil, gaveUp(ctx, "the replay")
		}
	}
	return db.enterCall()
}

// awaitCheckpoint takes a checkpoint if writers are too far ahead of the last one (R11). When ctx ends
// it stops; of a checkpoint of another goroutine it awaits the end.
func (db *DB) awaitCheckpoint(ctx context.Context) error {
	if !db.behind.Load() {
		return nil
	}
	err := db.checkpoint(ctx)
	if err != nil && ctx.Err() != nil && db.writable() == nil {
		return gaveUp(ctx, "a checkpoint")
	}
	return err
}

// holdContext is hold that gives up when ctx ends. With an error the caller has not got the turn.
func (t *turn) holdContext(ctx context.Context) error {
	if ctx.Err() != nil {
		return gaveUp(ctx, "the turn")
	}
	if ctx.Done() == nil {
		t.hold()
		return nil
	}
	locks.Await(locks.Turn)
	if t.tryTake(false) {
		return nil
	}
	o := getOp()
	defer putOp(o)
	o.hold = true
	t.enqueue(o)
	if o.waitContext(ctx) || !t.withdraw(o) {
		// It leads: an op that wants the turn for itself is never committed by another.
		locks.Took(locks.Turn)
		if ctx.Err() == nil {
			return nil
		}
		t.give()
	}
	return gaveUp(ctx, "the turn")
}

// waitContext is wait that returns false when ctx ended first. Then o may be done all the same, or
// be done later; withdraw finds out.
func (o *op) waitContext(ctx context.Context) bool {
	if runtime.GOMAXPROCS(0) > 1 {
		for range spins {
			if o.state.Load() == opDone {
				return true
			}
		}
	}
	if !o.state.CompareAndSwap(opWaiting, opParked) {
		return true
	}
	select {
	case <-o.wake:
		return true
	case <-ctx.Done():
		return false
	}
}

// withdraw takes o, whose caller is parked, off the queue. It returns false if another goroutine has
// taken it off before: then o has been given the turn, and withdraw waits until that is complete.
func (t *turn) withdraw(o *op) bool {
	t.mu.Lock()
	at := slices.Index(t.queue, o)
	if at >= 0 {
		t.queue = slices.Delete(t.queue, at, at+1)
		t.queued.Add(-1)
	}
	t.mu.Unlock()
	if at < 0 {
		<-o.wake
	}
	return at >= 0
}
