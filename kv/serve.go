package kv

import (
	"errors"
	"runtime"
)

// yieldFrom is how many entries make a commit so long that waiters park.
const yieldFrom = 16

// submit commits o's entries, alone or with those of queued ops. A parked caller that is woken may
// wait for this CPU. If all CPUs are busy it would get one only when the scheduler preempts, after
// 10 ms. So after a commit of many entries submit yields the CPU.
func (db *DB) submit(o *op) error {
	if !db.turn.take(o) {
		return o.err
	}
	woke := false
	defer func() {
		if woke = db.turn.give() || woke; woke && len(o.entries) >= yieldFrom {
			runtime.Gosched()
		}
	}()
	db.lockReaders()
	defer db.unlockReaders()
	woke = db.serve(o, true)
	for range serveMost {
		w := db.turn.next()
		if w == nil {
			break
		}
		woke = db.serve(w, false) || woke
	}
	return o.err
}

// serveMost is how often one caller commits the ops that were queued meanwhile before it gives the
// turn to another. The data of the commits stay in this CPU's cache, and no caller works long for
// others.
const serveMost = 4

var errInterrupted = errors.New("nvkv: a commit was interrupted")

// serve commits o and its group as one transaction. It reports the result to the callers of the
// group, and to o's caller unless that is this one. It says whether one of them was parked. A
// panic, for example by a memory fault, fails the store, and no caller stays waiting.
func (db *DB) serve(o *op, own bool) (woke bool) {
	told := 0
	tell := func(err error) {
		w := o.group[told]
		w.err = w.result(err)
		woke = w.finish() || woke
		told++
	}
	ended := false
	defer func() {
		if !ended {
			o.err = db.fail(errInterrupted)
			for told < len(o.group) {
				tell(o.err)
			}
		}
		if !own {
			woke = o.finish() || woke
		}
	}()
	o.err = db.commitGroup(o)
	if len(o.group) > 0 && o.err != nil && db.failure.Load() == nil {
		// One of them needs too much: commit each on its own.
		o.err = db.commitOp(o)
		for told < len(o.group) {
			tell(db.commitOp(o.group[told]))
		}
	}
	for told < len(o.group) {
		tell(o.err)
	}
	o.err = o.result(o.err)
	ended = true
	return woke
}

// commitGroup commits the entries of o and of its group together.
func (db *DB) commitGroup(o *op) error {
	if len(o.group) == 0 {
		return db.commitOp(o)
	}
	if db.off(ruleI2) {
		return db.commitEach(o)
	}
	es := db.admit(db.groupEntries[:0], o)
	for _, other := range o.group {
		es = db.admit(es, other)
	}
	one := es
	if !db.off(ruleR1) {
		one = lastPerKey(es)
	}
	err := db.commit(one)
	clear(es)
	db.groupEntries = es[:0]
	return err
}
