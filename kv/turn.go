package kv

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// turn is the right to write: one commit at a time. Who finds it taken queues
// its operation; whoever gives the turn up hands it, with everything queued, to
// the first in the queue, which commits all of it as one group.
//
// A writable Tx keeps other writers out from its beginning to its end, and works
// under the turn at both ends only. In between the turn is open: guests come in,
// who write nothing for a user: checkpoints, Check, Metrics, what moves records, and
// the Tx itself when it commits. So nobody but a writer waits for a Tx.
//
// An uncontended take and give is two atomic operations and no lock.
type turn struct {
	held   atomic.Uint32 // turnFree, turnTaken or turnOpen
	rest   uint32        // what give leaves it as: turnFree or turnOpen; under the turn
	queued atomic.Int32
	guests atomic.Int32 // of those queued
	mu     sync.Mutex   // guards queue
	queue  []*op
}

const (
	turnFree = iota
	turnTaken
	turnOpen // by a writable Tx: guests may take it
)

// op is what one caller wants committed, and how it learns the outcome.
type op struct {
	entries []entry
	err     error
	lead    bool // the turn was handed to this op's caller
	hold    bool // wants the turn itself and has nothing to commit
	guest   bool // beside an open writable Tx too; with hold
	state   atomic.Uint32
	wake    chan struct{}
	group   []*op // what was queued, for the one who leads
	buf     []byte
	one     [1]entry
}

const (
	opWaiting = iota
	opDone
	opParked
)

// spins is how often a waiter looks before it parks: a commit on NVM takes
// about a microsecond, parking and waking several.
const spins = 2000

// take returns when o has been committed by another caller (false), or when
// this caller holds the turn (true), with o.group to commit beside its own.
func (t *turn) take(o *op) bool {
	if t.tryTake(o.guest) {
		return true
	}
	o.state.Store(opWaiting)
	t.mu.Lock()
	t.queue = append(t.queue, o)
	if o.guest {
		t.guests.Add(1)
	}
	t.queued.Add(1)
	t.mu.Unlock()
	// Whoever held the turn may have given it up before it could see o.
	if t.tryTake(o.guest) {
		t.give()
	}
	o.wait()
	return o.lead
}

// tryTake takes the turn if it is free, or open to a guest.
func (t *turn) tryTake(guest bool) bool {
	return t.held.CompareAndSwap(turnFree, turnTaken) || guest && t.held.CompareAndSwap(turnOpen, turnTaken)
}

// waiting returns how many are queued that may have the turn next.
func (t *turn) waiting(rest uint32) int32 {
	if rest == turnOpen {
		return t.guests.Load()
	}
	return t.queued.Load()
}

// give gives the turn up, to the queue if somebody waits. It says whether it woke
// somebody who was parked.
func (t *turn) give() (woke bool) {
	for {
		rest := t.rest
		if t.waiting(rest) > 0 {
			if given, woke := t.handOver(); given {
				return woke
			}
		}
		t.held.Store(rest)
		if t.waiting(rest) == 0 || !t.held.CompareAndSwap(rest, turnTaken) {
			return false
		}
	}
}

// handOver makes the first op of the queue the leader of all up to the next
// one that wants to hold the turn by itself.
func (t *turn) handOver() (given, woke bool) {
	first := t.pop(true)
	if first == nil {
		return false, false
	}
	first.lead = true
	return true, first.finish()
}

// next takes what is queued, up to the next op that wants to hold the turn by
// itself, for the holder of the turn to commit: the first op with the others as
// its group. It returns nil if there is none.
func (t *turn) next() *op {
	if t.queued.Load() == 0 {
		return nil
	}
	return t.pop(false)
}

// pop takes the first op off the queue and those that may join it; while a
// writable Tx is open, the first guest. Whether one that wants to hold the turn may
// be the first, the caller says.
func (t *turn) pop(holdToo bool) *op {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := 0
	for t.rest == turnOpen && at < len(t.queue) && !t.queue[at].guest {
		at++
	}
	if at == len(t.queue) || t.queue[at].hold && !holdToo {
		return nil
	}
	first := t.queue[at]
	end := at + 1
	if !first.hold {
		for end < len(t.queue) && !t.queue[end].hold {
			end++
		}
	}
	first.group = append(first.group[:0], t.queue[at+1:end]...)
	t.queue = slices.Delete(t.queue, at, end)
	t.queued.Add(int32(at - end))
	if first.guest {
		t.guests.Add(-1)
	}
	return first
}

func (o *op) wait() {
	if runtime.GOMAXPROCS(0) > 1 {
		for range spins {
			if o.state.Load() == opDone {
				return
			}
		}
	}
	if o.state.CompareAndSwap(opWaiting, opParked) {
		<-o.wake
	}
}

// finish tells o's caller that it is through, or that it leads, and says whether
// that one was parked.
func (o *op) finish() (woke bool) {
	if o.state.Swap(opDone) == opParked {
		o.wake <- struct{}{}
		return true
	}
	return false
}

var opPool = sync.Pool{New: func() any { return &op{wake: make(chan struct{}, 1)} }}

func getOp() *op {
	o := opPool.Get().(*op)
	o.err, o.lead, o.hold, o.guest = nil, false, false, false
	o.group = o.group[:0]
	return o
}

// maxPooledBytes keeps the pool from holding on to large values.
const maxPooledBytes = 1 << 20

func putOp(o *op) {
	if cap(o.buf) > maxPooledBytes {
		o.buf = nil
	}
	clear(o.entries)
	o.entries = o.entries[:0]
	o.one[0] = entry{}
	clear(o.group[:cap(o.group)])
	opPool.Put(o)
}

// hold takes the turn for a writer's own purposes; release with give.
func (t *turn) hold() { t.enter(false) }

// visit takes the turn as a guest: whoever waits here waits for no open Tx, and may
// itself be waited for by one. Release with give.
func (t *turn) visit() { t.enter(true) }

func (t *turn) enter(guest bool) {
	if t.tryTake(guest) {
		return
	}
	o := getOp()
	o.hold, o.guest = true, guest
	t.take(o)
	putOp(o)
}

// open lets guests in from the next give on, and nobody else, until shut. The
// caller holds the turn.
func (t *turn) open() { t.rest = turnOpen }
func (t *turn) shut() { t.rest = turnFree }
