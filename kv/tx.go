package kv

import (
	"bytes"
	"errors"
	"iter"
	"sync"

	"nvkv/nvmap"
)

// Tx is a transaction. A read-only one sees the store as it was when it began,
// whatever is written meanwhile, and holds nobody up: it pins only the old
// versions that it can see. A Tx is for one goroutine.
//
// Slices that it returns are valid until it ends and must not be written: they
// alias mapped memory, where a store faults.
type Tx struct {
	db    *DB
	h     *holder
	at    int64 // wall clock at Begin, by which records expire
	err   error
	ended bool
}

// txs counts open transactions, so that Close can leave the memory that they
// alias in place and the last of them gives it back.
type txs struct {
	mu     sync.Mutex
	open   int
	closed *nvmap.Map // what the last one closes, after Close
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

// ErrReadOnlyTx is what Begin(true) answers where writable transactions are
// not to be had.
var errNoWritable = errors.New("nvkv: writable transactions are not supported yet: use Put, Delete and Write")

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

// Begin starts a transaction; end it with Rollback.
func (db *DB) Begin(writable bool) (*Tx, error) {
	if writable {
		return nil, errNoWritable
	}
	s, err := db.enter()
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
	return &Tx{db: db, h: h, at: now()}, nil
}

// Rollback ends the transaction. It may be called again.
func (tx *Tx) Rollback() error {
	if tx.ended {
		return nil
	}
	tx.ended = true
	if s, err := tx.db.enter(); err == nil {
		tx.db.closeHolder(tx.h)
		s.leave()
	}
	return tx.db.txs.leave()
}

// enter counts a method call in.
func (tx *Tx) enter() (*stripe, error) {
	if tx.ended {
		return nil, ErrTxClosed
	}
	return tx.db.enter()
}

// Get returns the value of key. The slice is valid until the Tx ends, and is a
// copy where the value lies in several runs.
func (tx *Tx) Get(key []byte) (value []byte, err error) {
	s, err := tx.enter()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	defer tx.db.guarded("get", panicOnFault(true), &err)
	tx.db.rlockReaders()
	defer tx.db.runlockReaders()
	rec, err := tx.db.recordAt(key, tx.h, tx.at)
	if err != nil {
		return nil, err
	}
	_, value, err = tx.db.content(rec)
	return value, err
}

// Has says whether key is there.
func (tx *Tx) Has(key []byte) (found bool, err error) {
	s, err := tx.enter()
	if err != nil {
		return false, err
	}
	defer s.leave()
	defer tx.db.guarded("has", panicOnFault(true), &err)
	tx.db.rlockReaders()
	defer tx.db.runlockReaders()
	_, err = tx.db.recordAt(key, tx.h, tx.at)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// content returns a record's key and value, aliasing the medium where they lie
// in one piece.
func (db *DB) content(rec *record) (key, value []byte, err error) {
	if !rec.spilled() {
		return rec.key, rec.value, nil
	}
	if sum, list := rec.extents(); len(list) == 1 && rec.flags&flagSpillKey == 0 {
		if v := db.m.View(list[0].Off, rec.valLen); v != nil && bodySum(v) == sum {
			return rec.key, v, nil
		}
	}
	return db.readRuns(rec, nil)
}

// Err returns the first error that an iterator met: iteration then ended early.
func (tx *Tx) Err() error { return tx.err }

// All yields the keys of [start, end) in ascending order with their values. A
// nil end is open, a nil start begins at the first key. What it yields is valid
// until the next step. An error ends the iteration: see Err.
func (tx *Tx) All(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		tx.walk(start, false, func(k, v []byte) bool {
			return (end == nil || bytes.Compare(k, end) < 0) && yield(k, v)
		})
	}
}

// Backward yields the keys of [start, end) in descending order; see All.
func (tx *Tx) Backward(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		tx.walk(end, true, func(k, v []byte) bool {
			return bytes.Compare(k, start) >= 0 && yield(k, v)
		})
	}
}

// Prefix yields the keys that begin with p in ascending order; see All.
func (tx *Tx) Prefix(p []byte) iter.Seq2[[]byte, []byte] {
	return tx.All(p, prefixEnd(p))
}

// prefixEnd returns the first key behind all that begin with p, nil if none is.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// walk calls fn for records in order until it returns false. Ascending it
// begins at the first key not below from, descending at the last key below
// from; nil stands for the respective end.
func (tx *Tx) walk(from []byte, backward bool, fn func(k, v []byte) bool) {
	s, err := tx.enter()
	if err != nil {
		tx.fail(err)
		return
	}
	// The caller's loop body runs inside: the call is counted out around it,
	// so that Close does not wait for it.
	s.leave()
	c := cursor{ix: &tx.db.ix, warm: true}
	if err := tx.start(&c, from, backward); err != nil {
		tx.fail(err)
		return
	}
	for c.valid {
		k, v, ok, err := tx.current(&c)
		if err != nil {
			tx.fail(err)
			return
		}
		if ok && !fn(k, v) {
			return
		}
		if err := tx.move(&c, backward); err != nil {
			tx.fail(err)
			return
		}
	}
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// start positions c.
func (tx *Tx) start(c *cursor, from []byte, backward bool) (err error) {
	s, err := tx.enter()
	if err != nil {
		return err
	}
	defer s.leave()
	defer tx.db.guarded("seek", panicOnFault(true), &err)
	tx.db.rlockReaders()
	defer tx.db.runlockReaders()
	root := tx.h.root
	switch {
	case !backward && from == nil:
		return c.first(root)
	case !backward:
		_, err = c.seek(root, from)
		return err
	case from == nil:
		return c.last(root)
	}
	if _, err = c.seek(root, from); err != nil {
		return err
	}
	if !c.valid {
		return c.last(root)
	}
	return c.prev()
}

func (tx *Tx) move(c *cursor, backward bool) (err error) {
	s, err := tx.enter()
	if err != nil {
		return err
	}
	defer s.leave()
	defer tx.db.guarded("scan", panicOnFault(true), &err)
	tx.db.rlockReaders()
	defer tx.db.runlockReaders()
	if backward {
		return c.prev()
	}
	return c.next()
}

// current returns what c stands on; ok is false where it has expired.
func (tx *Tx) current(c *cursor) (key, value []byte, ok bool, err error) {
	defer tx.db.guarded("scan", panicOnFault(true), &err)
	tx.db.rlockReaders()
	defer tx.db.runlockReaders()
	var rec record
	if err := tx.db.readRecord(refOff(c.ref()), &rec); err != nil {
		return nil, nil, false, err
	}
	if rec.expired(tx.at) {
		return nil, nil, false, nil
	}
	if !rec.spilled() {
		return rec.key, rec.value, true, nil
	}
	key, value, err = tx.db.content(&rec)
	return key, value, err == nil, err
}
