package kv

import (
	"errors"
	"sync"
	"sync/atomic"

	"nvkv/nvmap"
)

// Tx is a transaction. It sees the store as it was when it began, whatever is
// written meanwhile, and a writable one its own changes too. A read-only Tx
// holds nobody up: it pins only the old versions that it can see. There is one
// writable Tx at a time, and other writers wait until it ends. A Tx is for one
// goroutine.
//
// Slices that it returns are valid until it ends and must not be written: they
// alias mapped memory, where a store faults.
type Tx struct {
	db    *DB
	root  nvmap.PageID // of the state that it sees
	h     *holder      // pins that state; nil in a writable Tx: the turn does
	w     *writing     // nil in a read-only Tx
	at    int64        // wall clock at Begin, by which records expire
	err   error        // first one that an iterator met
	ended bool

	lenders []*lender // see Options.PoisonSlices
}

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
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() {
		if e := tx.Rollback(); err == nil && e != nil {
			err = e
		}
	}()
	defer db.guarded("view", panicOnFault(true), &err)
	return fn(tx)
}

// Begin starts a transaction; end it with Commit or Rollback. A writable one
// waits for its turn, and every other writer waits until it ends. The goroutine
// that has it must write through it alone: Put, Delete, Write, DeleteRange,
// Update, Compact or a second Begin(true) of the DB would wait for ever, and is
// answered with ErrNested. A Tx that is handed on belongs to the goroutine that
// used it last. Close rolls a writable one back.
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
	db.publish.Unlock()
	return &Tx{db: db, root: h.root, h: h, at: now()}, nil
}

// Rollback ends the transaction and drops its changes. It may be called again,
// also after Commit.
func (tx *Tx) Rollback() error {
	if tx.w != nil && tx.w.managed && !tx.ended {
		return errManaged
	}
	return tx.end()
}

// end ends the transaction; what was not committed is gone.
func (tx *Tx) end() error {
	if tx.ended {
		return nil
	}
	tx.ended = true
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
func (tx *Tx) enter() (*stripe, error) {
	if err := tx.begin(); err != nil {
		return nil, err
	}
	s, err := tx.db.enter()
	if err != nil {
		tx.unlock()
	}
	return s, err
}

// begin locks a writable Tx, until unlock, against Close.
func (tx *Tx) begin() error {
	switch {
	case tx.ended:
		return ErrTxClosed
	case tx.w == nil:
		return nil
	}
	tx.w.mu.Lock()
	if tx.w.over { // by Close
		tx.unlock()
		return ErrClosed
	}
	tx.w.used()
	return nil
}

func (tx *Tx) unlock() {
	if tx.w != nil {
		tx.w.mu.Unlock()
	}
}

func (tx *Tx) leave(s *stripe) {
	s.leave()
	tx.unlock()
}

// leaveGet is leave at the end of a point read.
func (tx *Tx) leaveGet(s *stripe) {
	s.leaveGet()
	tx.unlock()
}

// enterWrite is enter for a method that changes something.
func (tx *Tx) enterWrite() (*stripe, error) {
	if tx.w == nil && !tx.ended {
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
		if n.kind == kindDelete {
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
		return n.kind != kindDelete, nil
	}
	defer tx.db.guarded("has", panicOnFault(true), &err)
	_, err = tx.db.recordAt(key, tx.root, tx.at)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// changed returns what a writable Tx did to key, nil if nothing.
func (tx *Tx) changed(key []byte) *node {
	if tx.w == nil {
		return nil
	}
	return tx.w.changes.get(key)
}

// content returns a record's key and value, aliasing the medium where they lie
// in one piece.
func (db *DB) content(rec *record) (key, value []byte, err error) {
	if !rec.spilled() {
		return rec.key, rec.value, nil
	}
	if sum, list := rec.extents(); len(list) == 1 && rec.flags&flagSpillKey == 0 {
		if v := db.bytesAt(list[0].Off, rec.valLen); v != nil && bodySum(v) == sum {
			return rec.key, v, nil
		}
	}
	return db.readRuns(rec, nil)
}
