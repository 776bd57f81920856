package nvkvdatastore

import (
	"context"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"nvkv/kv"
)

// Batch returns an empty batch. Its Commit makes everything in it durable and visible at one
// instant, and empties it; after an error the batch is what it was. It is safe for concurrent
// use.
func (d *Datastore) Batch(context.Context) (ds.Batch, error) {
	return &batch{db: d.db, b: d.db.NewBatch()}, nil
}

type batch struct {
	db *kv.DB
	mu sync.Mutex // guards b
	b  *kv.Batch
}

func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	return b.do(ctx, func() error { b.b.Put(key.Bytes(), value); return nil })
}

func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	return b.do(ctx, func() error { b.b.Delete(key.Bytes()); return nil })
}

func (b *batch) Commit(ctx context.Context) error {
	return b.do(ctx, func() error {
		err := b.db.Write(b.b)
		if err == nil {
			b.b.Reset()
		}
		return err
	})
}

func (b *batch) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return f()
}
