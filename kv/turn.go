package kv

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"nvkv/kv/internal/locks"
)

// turn is the right to write: one commit at a time. A caller that finds it taken queues its
// operation. The owner gives the turn, with the whole queue, to the first in the queue, which
// commits all operations as one group.
//
// A writable Tx excludes other writers from its beginning to its end, but has the turn only at both
// ends. In between the turn is open, and guests may take it. Guests write nothing for a user:
// checkpoints, Check, Metrics, moves of records, and the Tx itself when it commits. So only writers
// wait for a Tx.
//
// Taking and giving a free turn is two atomic operations and no lock.
type turn struct {
	held   atomic.Uint32 // turnFree, turnTaken or turnOpen
	rest   uint32        // state after give: turnFree or turnOpen; the turn guards it
	queued atomic.Int32
	guests atomic.Int32               // number of guests in the queue
	mu     locks.Mutex[locks.AtInner] // guards queue
	queue  []*op
}

const (
	turnFree = iota
	turnTaken
	turnOpen // a writable Tx is open: guests may take the turn
)

// op is an operation of one caller in the queue, with its result.
type op struct {
	entries []entry
	cond    condition // for the entries to be committed; see compare.go
	err     error
	lead    bool // the turn was given to the caller of this op
	hold    bool // the caller wants the turn itself and has nothing to commit
	guest   bool // with hold: it may take an open turn
	state   atomic.Uint32
	wake    chan struct{}
	group   []*op // operations to be committed with this one, if it leads
	buf     []byte
}

const (
	opWaiting = iota
	opDone
	opParked
)

// spins is how often a waiter checks before it parks. A commit on NVM takes about a microsecond,
// parking and waking several.
const spins = 2000

// take waits until another caller has committed o (false), or until this caller has the turn
// (true). Then it must commit o.group besides o.
func (t *turn) take(o *op) bool {
	locks.Await(locks.Turn)
	if t.tryTake(o.guest) {
		return true
	}
	t.enqueue(o)
	o.wait()
	if o.lead {
		locks.Took(locks.Turn)
	}
	return o.lead
}

// enqueue puts o at the end of the queue, whose owners do the rest.
func (t *turn) enqueue(o *op) {
	o.state.Store(opWaiting)
	t.mu.Lock()
	t.queue = append(t.queue, o)
	if o.guest {
		t.guests.Add(1)
	}
	t.queued.Add(1)
	t.mu.Unlock()
	// The owner may have given the turn up before it could see o in the queue.
	if t.tryTake(o.guest) {
		t.give()
	}
}

// tryTake takes the turn if it is free, or if it is open and the caller is a guest.
func (t *turn) tryTake(guest bool) bool {
	ok := t.held.CompareAndSwap(turnFree, turnTaken) || guest && t.held.CompareAndSwap(turnOpen, turnTaken)
	if ok {
		locks.Took(locks.Turn)
	}
	return ok
}

// waiting returns how many of the queued operations may have the turn next.
func (t *turn) waiting(rest uint32) int32 {
	if rest == turnOpen {
		return t.guests.Load()
	}
	return t.queued.Load()
}

// give gives the turn up, or to the queue if operations wait. It says whether it woke a parked
// goroutine.
func (t *turn) give() (woke bool) {
	locks.Gave(locks.Turn)
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

// handOver gives the turn to the first op of the queue, with all ops up to the next one that wants
// the turn for itself.
func (t *turn) handOver() (given, woke bool) {
	first := t.pop(true)
	if first == nil {
		return false, false
	}
	first.lead = true
	return true, first.finish()
}

// next takes the queued ops, up to the next one that wants the turn for itself, for the owner of
// the turn to commit: the first op with the others as its group. It returns nil if there is none.
func (t *turn) next() *op {
	if t.queued.Load() == 0 {
		return nil
	}
	return t.pop(false)
}

// pop takes the first op off the queue, with those that may join it. While a writable Tx is open it
// takes the first guest. holdToo says whether it may take an op that wants the turn for itself.
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

// finish tells the caller of o that o is done or that it leads. It says whether that goroutine was
// parked.
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

// maxPooledBytes bounds the memory of a pooled op.
const maxPooledBytes = 1 << 20

func putOp(o *op) {
	if cap(o.buf) > maxPooledBytes {
		o.buf = nil
	}
	clear(o.entries)
	o.entries = o.entries[:0]
	o.cond = condition{}
	if cap(o.group) > 0 {
		clear(o.group[:cap(o.group)])
	}
	opPool.Put(o)
}

// hold takes the turn for a writer; release it with give.
func (t *turn) hold() { t.enter(false) }

// visit takes the turn as a guest. It does not wait for an open Tx. Release it with give.
func (t *turn) visit() { t.enter(true) }

func (t *turn) enter(guest bool) {
	locks.Await(locks.Turn)
	if t.tryTake(guest) {
		return
	}
	o := getOp()
	o.hold, o.guest = true, guest
	t.take(o)
	putOp(o)
}

// pass makes a new goroutine run fn with the turn, which the caller holds. fn gives the turn.
func (t *turn) pass(fn func()) {
	locks.Gave(locks.Turn)
	go func() {
		locks.Took(locks.Turn)
		fn()
	}()
}

// open makes the next give leave the turn open to guests, until shut. The caller holds the turn.
func (t *turn) open() { t.rest = turnOpen }
func (t *turn) shut() { t.rest = turnFree }
