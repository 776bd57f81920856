package kv

import (
	"cmp"
	"context"
	"errors"

	"nvkv/kv/internal/locks"
	"nvkv/kv/internal/record"
)

// A writable Tx excludes other writers from its beginning to its end, so the published state does
// not change. The Tx reads that state in place and needs no snapshot, and no slice that it returned
// is reused meanwhile. It keeps its changes in an overlay, until Commit writes them as one
// transaction with one fence.
//
// I19. A writable Tx sees one state from its beginning to its end. While it is open no user's write
// is published, also while it makes room in a full store. Other changes of the published state,
// moves and sweeps, first give it a snapshot.

// writing is the part of a Tx that only a writable one has.
type writing struct {
	// mu is held while a method runs, so that Close ends the Tx only between two of them.
	mu      locks.Mutex[locks.AtWriting]
	over    bool   // the turn was given up; guarded by mu
	reads   bool   // it still reads the state at its beginning; the turn guards it
	other   bool   // it has not the durability of the store's Options
	managed bool   // it belongs to Update, which alone ends it
	owner   uint64 // goroutine that runs the Update; see nested
	changes overlay
}

// errManaged is the error of Commit and Rollback inside Update.
var errManaged = errors.New("nvkv: Update ends its transaction itself: return nil to commit and an error to roll back")

// Update runs fn with a writable Tx and commits it if fn returns nil. If fn returns an error or
// panics, its changes are discarded; a panic continues. fn is called exactly once. Meanwhile every
// other writer waits. Put, Delete, Write, DeleteRange, Update and Begin(true) of the DB return
// ErrNested if fn itself calls them. In another goroutine, also that of an iter.Pull, they wait
// until fn returns, so fn must not wait for them. View and Get see the last published state.
func (db *DB) Update(fn func(*Tx) error) error { return db.update(context.Background(), fn) }

func (db *DB) update(ctx context.Context, fn func(*Tx) error) (err error) {
	if fn == nil {
		return errNil
	}
	tx, err := db.beginWrite(ctx, true)
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
	defer tx.db.guardedFn("update", panicOnFault(true), &err)
	return fn(tx)
}

// beginWrite begins a writable Tx. It gives up if ctx ends while it waits.
func (db *DB) beginWrite(ctx context.Context, managed bool) (*Tx, error) {
	s, err := db.enterCallContext(ctx)
	if err != nil {
		return nil, err
	}
	defer s.leave()
	if err := db.mayWait(); err != nil {
		return nil, err
	}
	if err := db.awaitCheckpoint(ctx); err != nil {
		return nil, err
	}
	if err := db.turn.holdContext(ctx); err != nil {
		return nil, err
	}
	defer db.turn.give()
	if err := db.writable(); err != nil {
		return nil, err
	}
	tx := &Tx{db: db, root: db.ix.Root(), space: db.spaceNow(), at: db.now(), changes: db.hash.index.Changes(), w: &writing{reads: true, managed: managed, changes: overlay{reuse: db.off(ruleR3)}}}
	if managed {
		tx.w.updating()
	}
	if err := db.txs.setWriter(db, tx); err != nil {
		return nil, err
	}
	db.turn.open()
	return tx.trace(), nil
}

// mayWait says whether a writer may wait for its turn: it returns ErrNested in an Update, and an
// error if the store takes no writes.
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
	t.writer.Store(tx)
	return nil
}

// revokeWriter rolls the open writable Tx back, so that Close does not have to wait for it.
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

// giveTurn lets other writers in. Only the first call has an effect. The caller holds w.mu.
func (tx *Tx) giveTurn() {
	if tx.w.over {
		return
	}
	tx.w.over = true
	db := tx.db
	db.turn.visit()
	tx.unpin()
	db.txs.writer.Store(nil)
	db.turn.shut()
	db.turn.give()
}

// pinWriter gives the open writable Tx a snapshot of its state (I19). The caller holds the turn and
// is about to change the published state.
func (db *DB) pinWriter() {
	tx := db.txs.writer.Load()
	if tx == nil || tx.h != nil || !tx.w.reads || db.off(ruleI19) {
		return
	}
	db.publish.Lock()
	defer db.publish.Unlock()
	tx.h = db.openHolder(true)
	tx.h.brief = true
}

// unpin closes such a snapshot. The Tx reads nothing afterwards.
func (tx *Tx) unpin() {
	tx.w.reads = false
	if tx.h == nil {
		return
	}
	db := tx.db
	db.publish.Lock()
	defer db.publish.Unlock()
	db.holders.drop(tx.h)
	tx.h = nil
	if db.reclaim(reclaimMost) {
		db.wakeReclaimer()
	}
}

// Commit makes the changes of a writable Tx durable and visible at one instant, with one fence.
// Without changes it returns nil and costs no fence. In any case the Tx has ended afterwards. After
// an error other than ErrFailed none of its changes exist. If an iterator has met an error, Commit
// returns that error and changes nothing. Of a Tx that has ended it returns ErrTxClosed, and of a
// read-only Tx it is otherwise Rollback.
func (tx *Tx) Commit() error {
	switch {
	case tx.over():
		return ErrTxClosed
	case tx.w == nil:
		return tx.Rollback()
	case tx.w.managed:
		return errManaged
	}
	return tx.commit()
}

func (tx *Tx) commit() error {
	err := tx.Err()
	if err == nil {
		err = tx.publishTimed()
	}
	return errors.Join(err, tx.end())
}

// publish commits the changes. If the store is full it makes room first, as a guest of the Tx's own
// turn. Other writers keep waiting, so the reads of the Tx are still valid at the next attempt
// (I19).
func (tx *Tx) publish() error {
	if err := tx.begin(); err != nil {
		return err
	}
	defer tx.unlock()
	c, err := tx.db.enterCall()
	if err != nil {
		return err
	}
	defer c.leave()
	es, err := tx.commitInTurn()
	for try := 0; tx.db.madeRoom(err, es, try, &pace{beside: true}); try++ {
		es, err = tx.commitInTurn()
	}
	return err
}

func (tx *Tx) commitInTurn() ([]entry, error) {
	tx.db.turn.visit()
	defer tx.db.turn.give()
	tx.unpin()
	es := tx.w.changes.entries()
	tx.db.group.other = tx.w.other
	defer func() { tx.db.group.other = false }()
	return es, tx.db.commitAlone(es)
}

// full says whether a commit found no room. Then it has written nothing.
func full(err error) bool {
	return err != nil && errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed)
}

// commitAlone commits sorted entries of distinct keys. The caller holds the turn.
func (db *DB) commitAlone(es []entry) (err error) {
	for i := range es {
		if err := db.prepare(&es[i]); err != nil {
			return err
		}
	}
	db.lockReaders()
	defer db.unlockReaders()
	done := false
	defer func() {
		if !done { // a panic or a fault: the state is unknown
			err = db.fail(cmp.Or(err, errInterrupted))
		}
	}()
	defer db.guarded("commit", panicOnFault(true), &err)
	err = db.commit(es)
	done = true
	return err
}

// standstill takes the turn as a guest, to look at the state that the turn guards or to change what
// no transaction sees. The caller calls end.
func (db *DB) standstill() (end func()) {
	db.turn.visit()
	return func() { db.turn.give() }
}

// Put stores a value when the Tx is committed. key and value are copied.
func (tx *Tx) Put(key, value []byte) error { return tx.set(record.KindPut, key, value, 0) }

// Delete removes a key when the Tx is committed. The key may be absent.
func (tx *Tx) Delete(key []byte) error { return tx.set(record.KindDelete, key, nil, 0) }

// put stores the entry e. With keep it does not copy the image, which must not change.
func (tx *Tx) put(e *entry, keep bool) error {
	if !keep {
		return tx.set(record.KindPut, e.key, e.value(), e.expiry)
	}
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if err := e.checkSizes(); err != nil {
		return err
	}
	tx.w.changes.adopt(e)
	return nil
}

func (tx *Tx) set(kind byte, key, value []byte, expiry int64) error {
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if err := checkSizes(len(key), len(value)); err != nil {
		if kind == record.KindDelete {
			return nil // no key is that long
		}
		return err
	}
	tx.w.changes.set(kind, key, value, expiry)
	return nil
}

// DeleteRange removes the keys of [start, end) when the Tx is committed, including those that the
// Tx put before. Keys that it puts later stay. A nil end is open. It costs one record, however many
// keys there are. The Tx holds the two bounds in memory.
func (tx *Tx) DeleteRange(start, end []byte) error {
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if r := rangeOf(start, end); !r.empty() {
		tx.w.changes.deleteRange(r)
	}
	return nil
}
