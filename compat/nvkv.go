package compat

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"nvkv/kv"
)

// nvkvEngine is an nvkv store. It needs no gate, because a kv.DB handles calls during and after its
// Close.
type nvkvEngine struct {
	db      *kv.DB
	path    string
	relaxed bool
	batches sync.Pool // of *kv.Batch
	readers openReaders
	closed  atomic.Pointer[Stats] // set by the first Close
}

func openNvkv(path string, opts Options) (Engine, error) {
	settings := &kv.Options{ReadOnly: opts.ReadOnly}
	if opts.Relaxed {
		settings.Durability = kv.Relaxed
	}
	if opts.Nvkv != nil {
		opts.Nvkv(settings)
	}
	db, err := kv.Open(path, settings)
	if err != nil {
		return nil, err
	}
	e := &nvkvEngine{db: db, path: path, relaxed: settings.Durability == kv.Relaxed}
	e.batches.New = func() any { return db.NewBatch() }
	return e, nil
}

func (e *nvkvEngine) Get(dst, key []byte) ([]byte, error) { return e.db.GetAppend(dst, key) }

func (e *nvkvEngine) Put(key, value []byte) error { return e.db.Put(key, value) }

func (e *nvkvEngine) Delete(key []byte) error { return e.db.Delete(key) }

func (e *nvkvEngine) WriteBatch(ops []Op) error {
	batch := e.batches.Get().(*kv.Batch)
	defer e.recycle(batch)
	for i := range ops {
		switch op := &ops[i]; {
		case !op.Delete:
			batch.PutUntil(op.Key, op.Value, op.Expiry)
		case len(op.Key) <= MaxKeyBytes: // a longer key is always absent
			batch.Delete(op.Key)
		}
	}
	return e.db.Write(batch)
}

// pooledBatchBytes bounds the memory of an idle batch.
const pooledBatchBytes = 1 << 20

func (e *nvkvEngine) recycle(batch *kv.Batch) {
	if batch.Size() > pooledBatchBytes {
		return
	}
	batch.Reset()
	e.batches.Put(batch)
}

func (e *nvkvEngine) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	return e.db.Scan(start, nil, n, fn)
}

func (e *nvkvEngine) Snapshot() (Reader, error) {
	tx, err := e.db.Begin(false)
	if err != nil {
		return nil, err
	}
	r := &nvkvReader{engine: e, tx: tx, gate: newGate()}
	e.readers.add(r, func() error { return r.end(ErrClosed) })
	return r, nil
}

// Flush takes a checkpoint, which writes the changed index pages.
func (e *nvkvEngine) Flush() error {
	if err := e.db.Sync(); err != nil {
		return err
	}
	err := e.db.Checkpoint(context.Background())
	if errors.Is(err, ErrReadOnly) {
		return nil // nothing is pending
	}
	return err
}

func (e *nvkvEngine) SizeOnDisk() (int64, error) {
	if e.closed.Load() != nil {
		return 0, ErrClosed
	}
	return diskBytes(e.path)
}

func (e *nvkvEngine) Stats() Stats {
	if last := e.closed.Load(); last != nil {
		return *last
	}
	m := e.db.Metrics()
	return Stats{UserBytes: m.UserBytes, MediaBytes: m.MediaBytes, Fences: m.Fences}
}

// Exceptions implements the method that [Exceptions] uses.
func (e *nvkvEngine) Exceptions() []Exception { return relaxedExceptions(e.relaxed) }

// Len returns the number of keys. The other engines do not know their number.
func (e *nvkvEngine) Len() int64 { return e.db.Metrics().Keys }

// Close also ends the snapshots, because a store stays locked while a transaction is open.
func (e *nvkvEngine) Close() error {
	last := e.Stats()
	e.closed.CompareAndSwap(nil, &last)
	return errors.Join(e.db.Close(), e.readers.endAll())
}

// nvkvReader is an open read transaction. It has a gate of its own, so that the engine's Close can
// end it during a call.
type nvkvReader struct {
	engine *nvkvEngine
	tx     *kv.Tx
	gate   *gate
	ended  atomic.Pointer[error] // the error of calls after the gate is closed
}

func (r *nvkvReader) Get(dst, key []byte) ([]byte, error) {
	if !r.gate.enter() {
		return dst, *r.ended.Load()
	}
	defer r.gate.leave()
	value, err := r.tx.Get(key)
	if err != nil {
		return dst, err
	}
	return appendValue(dst, value), nil
}

func (r *nvkvReader) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	if !r.gate.enter() {
		return *r.ended.Load()
	}
	defer r.gate.leave()
	return nvkvScan(r.tx, start, n, fn)
}

func (r *nvkvReader) Close() error {
	r.engine.readers.forget(r)
	return r.end(ErrTxClosed)
}

// end ends the transaction if it is still open. Later calls return why.
func (r *nvkvReader) end(why error) error {
	r.ended.CompareAndSwap(nil, &why)
	if !r.gate.close() {
		return nil
	}
	return r.tx.Rollback()
}

func nvkvScan(tx *kv.Tx, start []byte, n int, fn func(key, value []byte) bool) error {
	if n != 0 {
		for key, value := range tx.All(start, nil) {
			if n--; !fn(key, value) || n == 0 {
				break
			}
		}
	}
	return tx.Err()
}
