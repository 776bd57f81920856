package nvkvdatastore

import (
	"bytes"
	"context"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"nvkv/kv"
)

// NewTransaction begins a transaction. A writable one waits until no other is open, or until ctx
// ends. It sees its own changes, which Commit makes durable and visible at one instant. The
// transaction has the methods of ds.TTL too.
func (d *Datastore) NewTransaction(ctx context.Context, readOnly bool) (ds.Txn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tx, err := d.begin(ctx, !readOnly)
	if err != nil {
		return nil, err
	}
	return &txn{tx: tx, writable: !readOnly}, nil
}

// begin begins a Tx, and gives up waiting for it when ctx ends.
func (d *Datastore) begin(ctx context.Context, writable bool) (*kv.Tx, error) {
	if !writable || ctx.Done() == nil {
		return d.db.Begin(writable)
	}
	type begun struct {
		tx  *kv.Tx
		err error
	}
	c := make(chan begun)
	go func() {
		tx, err := d.db.Begin(true)
		select {
		case c <- begun{tx, err}:
		case <-ctx.Done(): // nobody waits any more
			if err == nil {
				_ = tx.Rollback()
			}
		}
	}()
	select {
	case b := <-c:
		return b.tx, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// txn is a transaction. Queries of a writable one may be read by another goroutine than its own
// (query.Results.Next), so a lock keeps them apart.
type txn struct {
	mu       sync.Mutex // held while tx works
	tx       *kv.Tx
	writable bool
}

var (
	_ ds.Txn = (*txn)(nil)
	_ ds.TTL = (*txn)(nil)
)

func (t *txn) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return translate(f())
}

func (t *txn) Put(ctx context.Context, key ds.Key, value []byte) error {
	return t.do(ctx, func() error { return t.tx.Put(key.Bytes(), value) })
}

func (t *txn) Delete(ctx context.Context, key ds.Key) error {
	return t.do(ctx, func() error { return t.tx.Delete(key.Bytes()) })
}

func (t *txn) Get(ctx context.Context, key ds.Key) (value []byte, err error) {
	err = t.do(ctx, func() error {
		v, err := t.tx.Get(key.Bytes())
		value = bytes.Clone(v)
		return err
	})
	return value, err
}

func (t *txn) Has(ctx context.Context, key ds.Key) (has bool, err error) {
	err = t.do(ctx, func() (err error) { has, err = t.tx.Has(key.Bytes()); return err })
	return has, err
}

func (t *txn) GetSize(ctx context.Context, key ds.Key) (size int, err error) {
	size = -1
	err = t.do(ctx, func() error {
		v, err := t.tx.Get(key.Bytes())
		if err == nil {
			size = len(v)
		}
		return err
	})
	return size, err
}

func (t *txn) PutWithTTL(ctx context.Context, key ds.Key, value []byte, ttl time.Duration) error {
	return t.do(ctx, func() error { return t.tx.PutTTL(key.Bytes(), value, ttl) })
}

func (t *txn) SetTTL(ctx context.Context, key ds.Key, ttl time.Duration) error {
	return t.do(ctx, func() error { return setTTL(t.tx, key, ttl) })
}

func (t *txn) GetExpiration(ctx context.Context, key ds.Key) (at time.Time, err error) {
	err = t.do(ctx, func() (err error) { at, err = t.tx.Expiry(key.Bytes()); return err })
	return at, err
}

// Query reads what the transaction sees, its own changes too. The results end with it.
func (t *txn) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return run(&search{ctx: ctx, tx: t.tx, lock: &t.mu}, q), nil
}

// Commit ends the transaction. Of a read-only one there is nothing to commit.
func (t *txn) Commit(ctx context.Context) error {
	return t.do(ctx, func() error { return t.tx.Commit() })
}

// Discard drops the changes. After Commit, and a second time, it does nothing.
func (t *txn) Discard(context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.tx.Rollback()
}
