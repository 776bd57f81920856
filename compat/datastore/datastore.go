// Package nvkvdatastore is a github.com/ipfs/go-datastore above a store of package kv.
//
// A [Datastore] has the features Batching, Transaction, TTL, Persistent, Checked and GC. Keys are
// stored as their text, so queries by prefix and in the order of keys read what they return and
// nothing else.
//
// # Durability
//
// Put, Delete, a batch and a transaction are durable when they return, unless kv.Options say
// Relaxed. Then Sync makes them durable.
//
// # Transactions
//
// There is one writable transaction at a time. All other writes wait until it ends, so the
// goroutine that has it must write through it alone. Read-only transactions and queries see one
// state of the store, and hold nobody up.
package nvkvdatastore

import (
	"context"
	"errors"
	"fmt"
	"time"

	ds "github.com/ipfs/go-datastore"
	"nvkv/kv"
)

// Datastore is a datastore in one file. It is safe for concurrent use.
type Datastore struct {
	db  *kv.DB
	own bool // Close closes db
}

var (
	_ ds.Batching            = (*Datastore)(nil)
	_ ds.TxnDatastore        = (*Datastore)(nil)
	_ ds.TTLDatastore        = (*Datastore)(nil)
	_ ds.PersistentDatastore = (*Datastore)(nil)
	_ ds.CheckedDatastore    = (*Datastore)(nil)
	_ ds.GCDatastore         = (*Datastore)(nil)
)

// Open opens the store in a file, and makes one where there is none; nil options are kv's
// defaults.
func Open(path string, o *kv.Options) (*Datastore, error) {
	db, err := kv.Open(path, o)
	if err != nil {
		return nil, err
	}
	return &Datastore{db: db, own: true}, nil
}

// New returns a datastore above a store that is open. Its Close leaves db open. Every key of db
// belongs to the datastore.
func New(db *kv.DB) *Datastore { return &Datastore{db: db} }

// translate gives kv's errors the names that users of datastores look for.
func translate(err error) error {
	if errors.Is(err, kv.ErrNotFound) {
		return ds.ErrNotFound
	}
	return err
}

// Put stores a value. It clears an expiry.
func (d *Datastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.db.Put(key.Bytes(), value)
}

// Delete removes a key; it need not be there.
func (d *Datastore) Delete(ctx context.Context, key ds.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.db.Delete(key.Bytes())
}

// Get returns a copy of a value, or ErrNotFound.
func (d *Datastore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := d.db.Get(key.Bytes())
	return v, translate(err)
}

// Has says whether a key is there.
func (d *Datastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return d.db.Has(key.Bytes())
}

// GetSize returns how long a value is, -1 with ErrNotFound.
func (d *Datastore) GetSize(ctx context.Context, key ds.Key) (size int, err error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	size = -1
	err = d.db.View(func(tx *kv.Tx) error {
		v, err := tx.Get(key.Bytes())
		if err == nil {
			size = len(v)
		}
		return err
	})
	return size, translate(err)
}

// Sync makes durable what was written before, whatever the prefix is.
func (d *Datastore) Sync(ctx context.Context, _ ds.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.db.Sync()
}

// PutWithTTL stores a value that is gone after ttl. A ttl of 0 or less deletes the key.
func (d *Datastore) PutWithTTL(ctx context.Context, key ds.Key, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.db.PutTTL(key.Bytes(), value, ttl)
}

// SetTTL has a key expire after ttl from now, or returns ErrNotFound. A ttl of 0 or less deletes
// it.
func (d *Datastore) SetTTL(ctx context.Context, key ds.Key, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return translate(d.db.Update(func(tx *kv.Tx) error { return setTTL(tx, key, ttl) }))
}

func setTTL(tx *kv.Tx, key ds.Key, ttl time.Duration) error {
	v, err := tx.Get(key.Bytes())
	if err != nil {
		return err
	}
	return tx.PutTTL(key.Bytes(), v, ttl)
}

// GetExpiration returns when a key expires, the zero time if never, or ErrNotFound.
func (d *Datastore) GetExpiration(ctx context.Context, key ds.Key) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	at, err := d.db.Expiry(key.Bytes())
	return at, translate(err)
}

// DiskUsage returns the size of the store's file.
func (d *Datastore) DiskUsage(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n := d.db.Metrics().DeviceBytes
	if n == 0 {
		return 0, kv.ErrClosed
	}
	return uint64(n), nil
}

// Check checks every structure and checksum of the store.
func (d *Datastore) Check(ctx context.Context) error {
	var found []error
	err := d.db.Check(ctx, func(issue kv.CheckIssue) {
		found = append(found, fmt.Errorf("%w: %v", kv.ErrCorrupt, issue))
	})
	return errors.Join(append(found, err)...)
}

// CollectGarbage gives space back to the file system.
func (d *Datastore) CollectGarbage(ctx context.Context) error { return d.db.Compact(ctx) }

// Close closes the store. Open transactions and queries fail from then on. A second call returns
// nil.
func (d *Datastore) Close() error {
	if !d.own {
		return nil
	}
	return d.db.Close()
}
