// Package nvkvethdb is a key-value store of github.com/ethereum/go-ethereum (ethdb.KeyValueStore)
// above a store of package kv. rawdb.NewDatabase takes it as it takes geth's own stores.
//
// # Durability
//
// Put, Delete, DeleteRange and a batch are durable when they return. The stores of geth wait for
// SyncKeyValue instead; with kv.Options.Durability Relaxed this one does too, and is faster. A
// crash then loses the newest writes, from some point on and each batch as a whole.
//
// # Iterators
//
// An iterator sees the store as it was when the iterator was made, whatever is written meanwhile.
// Until Release it holds on to that state, which keeps old values on the medium.
package nvkvethdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/ethdb"
	"nvkv/kv"
)

// Store is a key-value store in one file. It is safe for concurrent use.
type Store struct {
	db  *kv.DB
	own bool // Close closes db
}

var _ ethdb.KeyValueStore = (*Store)(nil)

// Open opens the store in a file, and makes one where there is none; nil options are kv's
// defaults.
func Open(path string, o *kv.Options) (*Store, error) {
	db, err := kv.Open(path, o)
	if err != nil {
		return nil, err
	}
	return &Store{db: db, own: true}, nil
}

// New returns a Store above a store that is open. Its Close leaves db open.
func New(db *kv.DB) *Store { return &Store{db: db} }

// Has says whether a key is there.
func (s *Store) Has(key []byte) (bool, error) { return s.db.Has(key) }

// Get returns a copy of a value; an error that is kv.ErrNotFound if there is none.
func (s *Store) Get(key []byte) ([]byte, error) { return s.db.Get(key) }

// Put stores a value.
func (s *Store) Put(key, value []byte) error { return s.db.Put(key, value) }

// Delete removes a key; it need not be there.
func (s *Store) Delete(key []byte) error { return s.db.Delete(key) }

// DeleteRange removes the keys of [start, end) at one instant, however many there are. A nil end
// is open.
func (s *Store) DeleteRange(start, end []byte) error { return s.db.DeleteRange(start, end) }

// Stat returns the store's Metrics as JSON.
func (s *Store) Stat() (string, error) {
	b, err := json.MarshalIndent(s.db.Metrics(), "", "  ")
	return string(b), err
}

// SyncKeyValue makes everything durable that was written before.
func (s *Store) SyncKeyValue() error { return s.db.Sync() }

// Compact gives space back to the file system. It looks at the whole store, whatever the bounds
// are: where a key lies does not depend on the key.
func (s *Store) Compact(start, limit []byte) error { return s.db.Compact(context.Background()) }

// Close closes the store. Open iterators end with an error. A second call returns nil.
func (s *Store) Close() error {
	if !s.own {
		return nil
	}
	return s.db.Close()
}

// NewBatch returns an empty batch, whose Write is atomic. It may be written again, and keeps none
// of the slices that it is given.
func (s *Store) NewBatch() ethdb.Batch { return &batch{db: s.db, b: s.db.NewBatch()} }

// NewBatchWithSize is NewBatch: a batch grows by itself.
func (s *Store) NewBatchWithSize(size int) ethdb.Batch { return s.NewBatch() }

type batch struct {
	db   *kv.DB
	b    *kv.Batch
	size int
}

func (b *batch) Put(key, value []byte) error {
	b.b.Put(key, value)
	b.size += len(key) + len(value)
	return nil
}

func (b *batch) Delete(key []byte) error {
	b.b.Delete(key)
	b.size += len(key)
	return nil
}

func (b *batch) DeleteRange(start, end []byte) error {
	b.b.DeleteRange(start, end)
	b.size += len(start) + len(end)
	return nil
}

func (b *batch) ValueSize() int { return b.size }
func (b *batch) Write() error   { return b.db.Write(b.b) }
func (b *batch) Close()         { b.Reset() }

func (b *batch) Reset() {
	b.b.Reset()
	b.size = 0
}

var errNoRanges = errors.New("nvkvethdb: a batch that deletes ranges is replayed into a writer that cannot")

func (b *batch) Replay(w ethdb.KeyValueWriter) (err error) {
	do := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	b.b.Replay(
		func(key, value []byte, _ time.Duration) { do(func() error { return w.Put(key, value) }) },
		func(key []byte) { do(func() error { return w.Delete(key) }) },
		func(start, end []byte) {
			do(func() error {
				r, ok := w.(ethdb.KeyValueRangeDeleter)
				if !ok {
					return errNoRanges
				}
				return r.DeleteRange(start, end)
			})
		})
	return err
}

// NewIterator returns an iterator over the keys that begin with prefix, from prefix and start
// together on.
func (s *Store) NewIterator(prefix, start []byte) ethdb.Iterator {
	tx, err := s.db.Begin(false)
	if err != nil {
		return &iterator{err: err}
	}
	prefix = bytes.Clone(prefix)
	return &iterator{tx: tx, cur: tx.Cursor(), prefix: prefix, from: append(prefix[:len(prefix):len(prefix)], start...)}
}

type iterator struct {
	tx     *kv.Tx // nil: released, or never begun
	cur    *kv.Cursor
	prefix []byte
	from   []byte
	begun  bool
	on     bool // cur stands on an item
	over   bool
	err    error
}

func (it *iterator) Next() bool {
	if it.tx == nil || it.over {
		return false
	}
	if it.begun {
		it.on = it.cur.Next()
	} else {
		it.begun = true
		it.on = it.cur.Seek(it.from)
	}
	it.err = it.cur.Err()
	it.on = it.on && bytes.HasPrefix(it.cur.Key(), it.prefix)
	it.over = !it.on
	return it.on
}

func (it *iterator) Error() error { return it.err }

func (it *iterator) Key() []byte {
	if !it.on {
		return nil
	}
	return it.cur.Key()
}

func (it *iterator) Value() []byte {
	if !it.on {
		return nil
	}
	return it.cur.Value()
}

func (it *iterator) Release() {
	it.on = false
	if it.tx == nil {
		return
	}
	_ = it.tx.Rollback() // a read-only one has nothing to lose
	it.tx = nil
}
