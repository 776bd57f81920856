package kv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A writable Tx holds the writer's turn from its beginning to its end, so the
// published state stands still: it reads that state in place, needs no
// snapshot, and nothing that it gave out is freed or used again meanwhile. Its
// changes are kept beside, in an overlay, until Commit hands them to the medium
// as one transaction with one fence.

// writing is what a writable Tx has beyond a read-only one.
type writing struct {
	// mu is held while a method runs, so that Close ends the Tx only between
	// two of them.
	mu      sync.Mutex
	over    bool          // the turn was given up; guarded by mu
	managed bool          // belongs to Update, which alone ends it
	owner   atomic.Uint64 // goroutine that must not wait for the turn; see nested
	changes overlay
}

// errManaged is what Commit and Rollback answer inside Update.
var errManaged = errors.New("nvkv: Update ends its transaction itself: return nil to commit and an error to roll back")

// Update runs fn with a writable transaction and commits it when fn returns
// nil. If fn returns an error or panics, nothing of it is left; a panic goes
// on. fn is called exactly once. While it runs, every other writer waits:
// calling Put, Delete, Write, DeleteRange, Update or Begin(true) of the DB from
// fn itself is answered with ErrNested. View and Get see the last published
// state.
func (db *DB) Update(fn func(*Tx) error) (err error) {
	tx, err := db.beginWrite(true)
	if err != nil {
		return err
	}
	defer func() {
		if e := tx.end(); err == nil {
			err = e
		}
	}()
	if err := tx.run(fn); err != nil {
		return err
	}
	return tx.commit()
}

func (tx *Tx) run(fn func(*Tx) error) (err error) {
	defer tx.db.guarded("update", panicOnFault(true), &err)
	return fn(tx)
}

func (db *DB) beginWrite(managed bool) (*Tx, error) {
	s, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	if err := db.mayWait(); err != nil {
		return nil, err
	}
	if db.behind.Load() {
		if err := db.checkpoint(context.Background()); err != nil {
			return nil, err
		}
	}
	db.turn.hold()
	tx := &Tx{db: db, root: db.ix.root, at: now(), w: &writing{managed: managed, changes: overlay{reuse: db.off(ruleR3)}}}
	err = db.writable()
	if err == nil {
		err = db.txs.setWriter(db, tx)
	}
	if err != nil {
		db.turn.give()
		return nil, err
	}
	return tx, nil
}

// mayWait says whether a writer may wait for its turn.
func (db *DB) mayWait() error {
	if err := db.writable(); err != nil {
		return err
	}
	if db.nested() {
		return ErrNested
	}
	return nil
}

// setWriter makes tx the Tx that Close ends.
func (t *txs) setWriter(db *DB, tx *Tx) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if db.closed.Load() {
		return ErrClosed // Close may have looked for a writer already
	}
	t.open++
	tx.w.begun()
	t.writer.Store(tx)
	return nil
}

// revokeWriter rolls the open writable Tx back, so that Close need not wait for
// whoever has it.
func (db *DB) revokeWriter() {
	db.txs.mu.Lock()
	tx := db.txs.writer.Load()
	db.txs.mu.Unlock()
	if tx != nil {
		tx.w.mu.Lock()
		tx.giveTurn()
		tx.w.mu.Unlock()
	}
}

// giveTurn gives the turn up, once. The caller holds w.mu.
func (tx *Tx) giveTurn() {
	if tx.w.over {
		return
	}
	tx.w.over = true
	tx.db.txs.writer.Store(nil)
	tx.db.turn.give()
}

// Commit makes the changes of a writable Tx durable and visible at one instant,
// with one fence; without changes it is nil without a fence. Whatever it
// returns, the Tx has ended, and after an error other than ErrFailed nothing of
// it is left. If an iterator met an error, Commit returns that one and changes
// nothing. A read-only Tx just ends.
func (tx *Tx) Commit() error {
	switch {
	case tx.ended:
		return ErrTxClosed
	case tx.w == nil:
		return tx.Rollback()
	case tx.w.managed:
		return errManaged
	}
	return tx.commit()
}

func (tx *Tx) commit() error {
	err := tx.err
	if err == nil {
		err = tx.publish()
	}
	return errors.Join(err, tx.end())
}

// publish commits the changes. A store that is full takes a checkpoint, which
// frees what deletes left behind. That needs the turn; if nobody wrote
// meanwhile, the Tx may still be committed.
func (tx *Tx) publish() error {
	if err := tx.begin(); err != nil {
		return err
	}
	defer tx.unlock()
	db := tx.db
	c, err := db.enterCall()
	if err != nil {
		return err
	}
	defer c.leave()
	began := db.visible
	err = db.commitAlone(tx.w.changes.entries())
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrFailed) {
		return err
	}
	tx.giveTurn()
	if db.squeeze(context.Background()) != nil {
		return err
	}
	db.turn.hold()
	defer db.turn.give()
	if db.visible != began {
		return err
	}
	return db.commitAlone(tx.w.changes.entries())
}

// commitAlone commits sorted entries of distinct keys. The caller holds the turn.
func (db *DB) commitAlone(es []entry) (err error) {
	for i := range es {
		db.prepare(&es[i])
	}
	db.lockReaders()
	defer db.unlockReaders()
	done := false
	defer func() {
		if !done { // a panic, or a fault: what it left behind is not known
			err = db.fail(cmp.Or(err, errInterrupted))
		}
	}()
	defer db.guarded("commit", panicOnFault(true), &err)
	err = db.commit(es)
	done = true
	return err
}

// standstill takes the turn from outside all transactions: to look at what it
// guards, or for what no transaction notices. While a writable Tx is open it
// keeps that one from committing instead, so that nobody waits for the Tx to
// end, least of all the goroutine that has it. The caller calls end.
func (db *DB) standstill() (end func()) {
	for {
		tx := db.txs.writer.Load()
		if tx == nil {
			db.turn.hold()
			return func() { db.turn.give() }
		}
		// Commit locks mu and may wait for a checkpoint, which then waits here.
		if tx.w.mu.TryLock() {
			if !tx.w.over {
				return tx.w.mu.Unlock
			}
			tx.w.mu.Unlock()
		}
		time.Sleep(standstillPoll)
	}
}

// standstillPoll is how often standstill looks whether a Tx is between two of
// its methods. Only Commit takes longer than that.
const standstillPoll = 20 * time.Microsecond

// Put stores a value when the Tx is committed. key and value are copied.
func (tx *Tx) Put(key, value []byte) error { return tx.set(kindPut, key, value, 0) }

// PutTTL is Put of a value that is absent once ttl has passed from now; see
// DB.PutTTL. The Tx itself sees it until it ends.
func (tx *Tx) PutTTL(key, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return tx.Delete(key)
	}
	return tx.set(kindPut, key, value, expiryAfter(now(), ttl))
}

// Delete removes a key when the Tx is committed; it need not be there.
func (tx *Tx) Delete(key []byte) error { return tx.set(kindDelete, key, nil, 0) }

func (tx *Tx) set(kind byte, key, value []byte, expiry int64) error {
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if err := checkSizes(len(key), len(value)); err != nil {
		if kind == kindDelete {
			return nil // such a key cannot be there
		}
		return err
	}
	tx.w.changes.set(kind, key, value, expiry)
	return nil
}

// DeleteRange removes the keys of [start, end) when the Tx is committed; a nil
// end is open. The medium gets one record, however many keys there are; the Tx
// holds their names in memory until it ends.
func (tx *Tx) DeleteRange(start, end []byte) (err error) {
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if emptyRange(start, end) {
		return nil
	}
	defer tx.db.guarded("delete range", panicOnFault(true), &err)
	keys, err := tx.baseKeys(start, end)
	if err != nil {
		return err
	}
	for n := tx.w.changes.find(start, nil); n != nil && inside(n.key, end); n = n.link(0) {
		if n.kind != kindDelete {
			keys = append(keys, n.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if len(start) > MaxKeyBytes { // no record has such a key
		for _, k := range keys {
			tx.w.changes.set(kindDelete, k, nil, 0)
		}
		return nil
	}
	tx.w.changes.cover(start, end)
	for _, k := range keys {
		tx.w.changes.coverKey(k)
	}
	return nil
}

// baseKeys returns the keys of [start, end) in the state that tx began with,
// expired ones included. It reads no record.
func (tx *Tx) baseKeys(start, end []byte) (keys [][]byte, err error) {
	ix := &tx.db.ix
	c := cursor{ix: ix}
	for _, err = c.seek(tx.root, start); err == nil && c.valid; err = c.next() {
		key, _, err := ix.fullKey(c.leaf, pageCount(c.leaf), c.at())
		if err != nil {
			return nil, err
		}
		if !inside(key, end) {
			break
		}
		keys = append(keys, key)
	}
	return keys, err
}

// emptyRange says whether [start, end) holds no key; inside whether a key is
// below end. A nil end is open, one that is empty but not nil leaves nothing.
func emptyRange(start, end []byte) bool { return end != nil && bytes.Compare(start, end) >= 0 }
func inside(key, end []byte) bool       { return end == nil || bytes.Compare(key, end) < 0 }
