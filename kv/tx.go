package kv

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Tx is a transaction. It sees the store as it was when it began, whatever is
// written meanwhile, and a writable one its own changes too. A read-only Tx
// holds nobody up: it pins only the old versions that it can see. There is one
// writable Tx at a time, and other writers wait until it ends.
//
// A writable Tx is for one goroutine. A read-only one may be used by several at once,
// each with cursors and iterators of its own. Rollback waits for calls under way, and
// for nothing else; calls after it fail with ErrTxClosed.
//
// Slices that it returns are valid until it ends and must not be written: they
// alias mapped memory, where a store faults. Inside View and Update that ends the
// transaction with ErrSliceWritten; elsewhere, after Begin or in another goroutine, no
// frame of this package is on the stack, and it ends the program as any store into
// read-only memory does.
type Tx struct {
	db    *DB
	root  nvmap.PageID          // of the state that it sees
	h     *holder               // pins that state; in a writable Tx the turn does, and h is under it: see pinWriter
	w     *writing              // nil in a read-only Tx
	space Space                 // see Tx.Space
	at    int64                 // wall clock at Begin, by which records expire
	err   atomic.Pointer[error] // first one that an iterator met
	calls atomic.Int64          // under way, of a read-only Tx; txEnded is added when a Tx ends

	lending sync.Mutex // guards lenders
	lenders []*lender  // see Options.PoisonSlices
}

// txEnded makes Tx.calls negative, however many calls come too late.
const txEnded = math.MinInt64 / 2

// txs counts open transactions, so that Close can leave the memory that they
// alias in place and the last of them gives it back.
type txs struct {
	mu     sync.Mutex
	open   int
	closed *nvmap.Map         // what the last one closes, after Close
	writer atomic.Pointer[Tx] // the writable one that holds the turn; set under mu
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

// View runs fn with a snapshot and ends it when fn returns or panics.
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

// Begin starts a transaction; end it with Commit or Rollback. A writable one
// waits for its turn, and every other writer waits until it ends. Whoever has it must
// write through it alone: Put, Delete, Write, DeleteRange, Update or a second
// Begin(true) of the DB wait until it ends, in whichever goroutine, so a goroutine that
// is to end it waits for ever. (Inside [DB.Update] that is answered with ErrNested;
// here nobody knows which goroutine will end the Tx.) Nothing else waits for it:
// checkpoints, Compact, Check, Backup, Metrics and reads go on. Close rolls a writable
// one back.
func (db *DB) Begin(writable bool) (*Tx, error) {
	if writable {
		return db.beginWrite(false)
	}
	s, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	db.txs.mu.Lock()
	db.txs.open++
	db.txs.mu.Unlock()
	db.publish.Lock()
	h := db.openHolder(true)
	space := db.space
	db.publish.Unlock()
	return &Tx{db: db, root: h.root, h: h, space: space, at: db.now()}, nil
}

// Rollback ends the transaction and drops its changes. It may be called again,
// also after Commit.
func (tx *Tx) Rollback() error {
	if tx.w != nil && tx.w.managed && !tx.over() {
		return errManaged
	}
	return tx.end()
}

// over says whether the Tx has ended, or was never begun.
func (tx *Tx) over() bool { return tx.db == nil || tx.calls.Load() < 0 }

// finish makes later calls fail and waits for those under way. It says whether the Tx
// had not ended before.
//
// I20. What a snapshot pins is freed only when no call of its Tx is under way: the call
// was counted before Rollback looked, or finds that the Tx has ended.
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

// end ends the transaction; what was not committed is gone.
func (tx *Tx) end() error {
	if !tx.finish() {
		return nil
	}
	tx.recall()
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

// begin begins a call, until unlock: it counts one of a read-only Tx, against Rollback,
// and locks a writable one, against Close.
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

// leaveGet is leave at the end of a point read.
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

// Get returns the value of key. The slice is valid until the Tx ends, and is a
// copy where the value lies in several runs.
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
	rec, err := tx.db.recordAt(key, tx.root, tx.at)
	if err != nil {
		return nil, err
	}
	_, value, err = tx.db.content(rec)
	return tx.lend(value), err
}

// Has says whether key is there.
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
	_, err = tx.db.recordAt(key, tx.root, tx.at)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// changed returns what a writable Tx did to key, by itself or in a range; nil if nothing.
func (tx *Tx) changed(key []byte) *node {
	if tx.w == nil {
		return nil
	}
	return tx.w.changes.change(key)
}

// content returns a record's key and value, aliasing the medium where they lie
// in one piece.
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
