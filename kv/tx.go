package kv

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/locks"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Tx is a transaction. It sees the store as it was when it began, whatever is written meanwhile; a
// writable Tx sees its own changes too. A read-only Tx holds up no other goroutine: it only pins
// the old versions that it can see. There is one writable Tx at a time, and other writers wait
// until it ends.
//
// A writable Tx is for one goroutine at a time. A read-only Tx may be used by several goroutines,
// each with cursors and iterators of its own. Rollback waits for calls under way and for nothing
// else; later calls return ErrTxClosed.
//
// Slices of Get and Keys are valid until the Tx ends; those of the other iterators and of cursors
// until the next step, or until the Tx ends where Info says that the device is mapped. The caller must not write to them: they alias
// mapped memory, where a store faults. Inside View and Update such a fault ends the transaction
// with ErrSliceWritten. After Begin, or in another goroutine, no function of this package can catch
// it, and it ends the program, like any store to read-only memory.
type Tx struct {
	db    *DB
	root  nvmap.PageID          // of the state that it sees
	h     *holder               // pins that state; of a writable Tx: see pinWriter
	w     *writing              // nil in a read-only Tx
	space Space                 // see Tx.Space
	at    int64                 // wall clock at Begin, by which records expire
	err   atomic.Pointer[error] // first error of an iterator
	calls atomic.Int64          // of a read-only Tx, under way; txEnded is added at the end

	changes uint64 // of the index when it began, see I25

	lending locks.Mutex[locks.AtLending] // guards lenders
	lenders []*lender                    // see Options.PoisonSlices
}

// txEnded makes Tx.calls negative, however many calls come too late.
const txEnded = math.MinInt64 / 2

// txs counts open transactions. Close leaves the memory that they alias mapped, and the last
// transaction unmaps it.
type txs struct {
	mu     locks.Mutex[locks.AtInner]
	open   int
	closed *nvmap.Map         // to be closed by the last transaction, after Close
	writer atomic.Pointer[Tx] // the open writable Tx; set under mu
}

// lastOut closes m, or leaves that to the last open transaction.
func (t *txs) lastOut(m *nvmap.Map) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == 0 {
		return m.Close()
	}
	t.closed = m
	if u, ok := m.Device().(interface{ Unlock() error }); ok {
		return u.Unlock()
	}
	return nil
}

func (t *txs) leave() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open--; t.open == 0 && t.closed != nil {
		return t.closed.Close()
	}
	return nil
}

// View runs fn with a read-only Tx and ends it when fn returns or panics.
func (db *DB) View(fn func(*Tx) error) (err error) {
	if fn == nil {
		return errNil
	}
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() {
		if e := tx.Rollback(); err == nil && e != nil {
			err = e
		}
	}()
	defer db.guardedFn("view", panicOnFault(true), &err)
	return fn(tx)
}

// Begin starts a transaction; end it with Commit or Rollback. A writable one waits for its turn,
// and every other writer waits until it ends. The goroutine that is to end it must write only
// through it: Put, Delete, Write, DeleteRange, Update and a second Begin(true) of the DB would wait
// for ever. (Inside [DB.Update] they return ErrNested instead; here it is unknown which goroutine
// will end the Tx.) No other call waits for a writable Tx: checkpoints, Compact, Check, Backup,
// Metrics and reads continue. Close rolls it back.
func (db *DB) Begin(writable bool) (*Tx, error) {
	if writable {
		return db.beginWrite(context.Background(), false)
	}
	s, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	db.txs.mu.Lock()
	db.txs.open++
	db.txs.mu.Unlock()
	box := new(struct { // in one allocation
		tx Tx
		h  holder
	})
	tx := &box.tx
	by := db.openedBy()
	db.publish.Lock()
	tx.h, tx.space, tx.changes = db.openHolderIn(&box.h, true), db.space, db.hash.index.Changes()
	tx.h.by = by
	db.publish.Unlock()
	tx.db, tx.root, tx.at = db, tx.h.root, db.now()
	return tx.trace(), nil
}

// Rollback ends the transaction and discards its changes. It may be called again, also after
// Commit.
func (tx *Tx) Rollback() error {
	if tx.w != nil && tx.w.managed && !tx.over() {
		return errManaged
	}
	return tx.end()
}

// over says whether the Tx has ended, or was never begun.
func (tx *Tx) over() bool { return tx.db == nil || tx.calls.Load() < 0 }

// finish makes later calls fail and waits for those under way. It returns false if the Tx had ended
// before.
//
// I20. The things that the snapshot of a read-only Tx pins are freed only when no call of the Tx is
// under way. Each call either was counted before finish looked, or finds that the Tx has ended.
func (tx *Tx) finish() bool {
	if tx.db == nil {
		return false
	}
	for n := tx.calls.Load(); ; n = tx.calls.Load() {
		if n < 0 {
			return false
		}
		if tx.calls.CompareAndSwap(n, n+txEnded) {
			break
		}
	}
	for spins := 0; tx.calls.Load() != txEnded; spins++ {
		btree.Pause(spins)
	}
	return true
}

// end ends the transaction. Changes that were not committed are discarded.
func (tx *Tx) end() error {
	if !tx.finish() {
		return nil
	}
	tx.recall()
	tx.untrace()
	if tx.w != nil {
		tx.endWriting()
	} else if s, err := tx.db.enterCall(); err == nil {
		tx.db.closeHolder(tx.h)
		s.leave()
	}
	return tx.db.txs.leave()
}

func (tx *Tx) endWriting() {
	w := tx.w
	w.mu.Lock()
	defer w.mu.Unlock()
	tx.giveTurn()
	w.changes = overlay{}
}

// enter begins the section of a method; leave ends it.
func (tx *Tx) enter() (*btree.Section, error) {
	if err := tx.begin(); err != nil {
		return nil, err
	}
	s, err := tx.db.enter()
	if err != nil {
		tx.unlock()
	}
	return s, err
}

// begin begins a call; unlock ends it. In a read-only Tx it counts the call, for Rollback; in a
// writable one it takes the lock, against Close.
func (tx *Tx) begin() error {
	if tx.w == nil {
		switch {
		case tx.db == nil:
			return ErrTxClosed
		case tx.calls.Add(1) < 0:
			tx.calls.Add(-1)
			return ErrTxClosed
		}
		return nil
	}
	if tx.over() {
		return ErrTxClosed
	}
	tx.w.mu.Lock()
	if tx.w.over { // by Close
		tx.unlock()
		return ErrClosed
	}
	return nil
}

func (tx *Tx) unlock() {
	if tx.w != nil {
		tx.w.mu.Unlock()
	} else {
		tx.calls.Add(-1)
	}
}

func (tx *Tx) leave(s *btree.Section) {
	s.Leave()
	tx.unlock()
}

// leaveGet is leave for a point read.
func (tx *Tx) leaveGet(s *btree.Section) {
	s.LeaveGet()
	tx.unlock()
}

// enterWrite is enter for a method that changes something.
func (tx *Tx) enterWrite() (*btree.Section, error) {
	if tx.w == nil && !tx.over() {
		return nil, ErrReadOnly
	}
	return tx.enter()
}

// Get returns the value of key, or ErrNotFound. The slice is valid until the Tx ends. It is a copy
// if the value lies in several runs.
func (tx *Tx) Get(key []byte) (value []byte, err error) {
	s, err := tx.enter()
	if err != nil {
		return nil, err
	}
	defer tx.leaveGet(s)
	if n := tx.changed(key); n != nil {
		if n.kind == record.KindDelete {
			return nil, ErrNotFound
		}
		return tx.lend(n.value()), nil
	}
	defer tx.db.guarded("get", panicOnFault(true), &err)
	if value, ok, err := tx.getHashed(key); ok {
		if err != nil {
			return nil, err
		}
		return tx.lend(value), nil
	}
	rec, err := tx.db.recordAt(key, tx.root, tx.at)
	if err != nil {
		return nil, err
	}
	_, value, err = tx.db.content(rec)
	return tx.lend(value), err
}

// Has says whether key exists.
func (tx *Tx) Has(key []byte) (found bool, err error) {
	s, err := tx.enter()
	if err != nil {
		return false, err
	}
	defer tx.leaveGet(s)
	if n := tx.changed(key); n != nil {
		return n.kind != record.KindDelete, nil
	}
	defer tx.db.guarded("has", panicOnFault(true), &err)
	if _, ok, err := tx.getHashed(key); ok {
		return err == nil, nil
	}
	_, err = tx.db.recordAt(key, tx.root, tx.at)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// changed returns the change that a writable Tx made to key, by itself or in a range, or nil.
func (tx *Tx) changed(key []byte) *node {
	if tx.w == nil {
		return nil
	}
	return tx.w.changes.change(key)
}

// content returns key and value of a record. They alias the medium, except a value in several runs
// or with its key in runs, which is a copy.
func (db *DB) content(rec *record.Record) (key, value []byte, err error) {
	if !rec.Spilled() {
		return rec.Key, rec.Value, nil
	}
	l, err := db.runs(rec)
	if err != nil {
		return nil, nil, err
	}
	if len(l.Data()) == 1 && rec.Flags&record.FlagSpillKey == 0 {
		if v := db.bytesAt(l.Data()[0].Off, rec.ValLen); v != nil && record.BodySum(v) == l.Sum {
			return rec.Key, v, nil
		}
	}
	return db.readListed(rec, &l, nil)
}
