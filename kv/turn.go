package kv

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// turn is the right to write: one commit at a time. Who finds it taken queues
// its operation; whoever gives the turn up hands it, with everything queued, to
// the first in the queue, which commits all of it as one group.
//
// An uncontended take and give is two atomic operations and no lock.
type turn struct {
	held   atomic.Uint32
	queued atomic.Int32
	mu     sync.Mutex // guards queue
	queue  []*op
}

// op is what one caller wants committed, and how it learns the outcome.
type op struct {
	entries []entry
	err     error
	lead    bool // the turn was handed to this op's caller
	hold    bool // wants the turn itself and has nothing to commit
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
	if t.held.CompareAndSwap(0, 1) {
		return true
	}
	o.state.Store(opWaiting)
	t.mu.Lock()
	t.queue = append(t.queue, o)
	t.queued.Add(1)
	t.mu.Unlock()
	// Whoever held the turn may have given it up before it could see o.
	if t.held.CompareAndSwap(0, 1) {
		t.give()
	}
	o.wait()
	return o.lead
}

// tryTake takes the turn if it is free.
func (t *turn) tryTake() bool { return t.held.CompareAndSwap(0, 1) }

// give gives the turn up, to the queue if somebody waits. It says whether it woke
// somebody who was parked.
func (t *turn) give() (woke bool) {
	for {
		if t.queued.Load() > 0 {
			if given, woke := t.handOver(); given {
				return woke
			}
		}
		t.held.Store(0)
		if t.queued.Load() == 0 || !t.held.CompareAndSwap(0, 1) {
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

// pop takes the first op off the queue and those that may join it. Whether one
// that wants to hold the turn may be the first, the caller says.
func (t *turn) pop(holdToo bool) *op {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 || t.queue[0].hold && !holdToo {
		return nil
	}
	first := t.queue[0]
	n := 1
	if !first.hold {
		for n < len(t.queue) && !t.queue[n].hold {
			n++
		}
	}
	first.group = append(first.group[:0], t.queue[1:n]...)
	rest := copy(t.queue, t.queue[n:])
	clear(t.queue[rest:])
	t.queue = t.queue[:rest]
	t.queued.Add(-int32(n))
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
	o.err, o.lead, o.hold = nil, false, false
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

// hold takes the turn for the caller's own purposes; release with t.give.
func (t *turn) hold() {
	if t.tryTake() {
		return
	}
	o := getOp()
	o.hold = true
	t.take(o)
	putOp(o)
}
