package compat

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// bboltMapBytes is the initial size of the mapping on machines with 64-bit addresses.
const bboltMapBytes int64 = 16 << 30

// bboltData is the bucket that holds every key.
var bboltData = []byte("data")

var bboltErrors = errorMap{
	{bolterrors.ErrDatabaseNotOpen, ErrClosed},
	{bolterrors.ErrTxClosed, ErrTxClosed},
	{bolterrors.ErrDatabaseReadOnly, ErrReadOnly},
	{bolterrors.ErrTxNotWritable, ErrReadOnly},
	{bolterrors.ErrKeyTooLarge, ErrKeyTooLarge},
	{bolterrors.ErrValueTooLarge, ErrValueTooLarge},
	{bolterrors.ErrMaxSizeReached, ErrFull},
	{syscall.ENOSPC, ErrFull},
	{bolterrors.ErrTimeout, ErrLocked},
	{bolterrors.ErrVersionMismatch, ErrVersion},
	{bolterrors.ErrChecksum, ErrCorrupt},
	{bolterrors.ErrInvalid, ErrNotStore},
}

func bboltError(err error) error { return bboltErrors.convert("bbolt", err) }

// bboltEngine is one bucket of a bbolt file, one transaction per call.
type bboltEngine struct {
	db      *bolt.DB
	path    string
	page    uint64 // bytes
	relaxed bool
	keys    keyCoding
	gate    *gate
	readers openReaders

	user    atomic.Uint64 // bytes
	commits atomic.Uint64
	flushes atomic.Uint64
}

func openBbolt(path string, opts Options) (Engine, error) {
	settings := bboltSettings(opts)
	db, err := openGuarded(path, settings)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, bboltError(err))
	}
	return &bboltEngine{
		db:      db,
		path:    path,
		page:    uint64(db.Info().PageSize),
		relaxed: settings.NoSync,
		keys:    keyCoding{opts.RawKeys, bolt.MaxKeySize},
		gate:    newGate(),
	}, nil
}

// openGuarded opens a file and its bucket. It turns the panics and memory faults of bbolt on a
// damaged file into an error. Later reads are not guarded: see DamageMayPanic.
func openGuarded(path string, settings *bolt.Options) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = &engineError{"bbolt", ErrCorrupt, fmt.Errorf("panic: %v", reason)}
		}
	}()
	db, err = bolt.Open(path, 0o666, settings)
	if err != nil || settings.ReadOnly {
		return db, err
	}
	if err := createBucket(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func bboltSettings(opts Options) *bolt.Options {
	settings := &bolt.Options{
		Timeout:         time.Nanosecond, // one attempt: a locked file gives an error at once
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: int(min(bboltMapBytes, math.MaxInt/4)),
		NoSync:          opts.Relaxed,
		ReadOnly:        opts.ReadOnly,
	}
	if opts.Bbolt != nil {
		opts.Bbolt(settings)
	}
	return settings
}

// createBucket makes the data bucket. It checks first whether the bucket exists, because an Update
// commits even if it changes nothing.
func createBucket(db *bolt.DB) error {
	var present bool
	err := db.View(func(tx *bolt.Tx) error {
		present = tx.Bucket(bboltData) != nil
		return nil
	})
	if err != nil || present {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(bboltData)
		return err
	})
}

func (e *bboltEngine) Get(dst, key []byte) ([]byte, error) {
	if !e.gate.enter() {
		return dst, ErrClosed
	}
	defer e.gate.leave()
	found := false
	err := e.db.View(func(tx *bolt.Tx) error {
		dst, found = e.keys.bboltGet(tx, dst, key)
		return nil
	})
	if err != nil {
		return dst, bboltError(err)
	}
	if !found {
		return dst, ErrNotFound
	}
	return dst, nil
}

func (e *bboltEngine) Put(key, value []byte) error {
	return e.update(uint64(len(key)+len(value)), func(tx *bolt.Tx) error {
		return e.keys.bboltPut(tx, key, value)
	})
}

func (e *bboltEngine) Delete(key []byte) error {
	return e.update(uint64(len(key)), func(tx *bolt.Tx) error {
		return e.keys.bboltDelete(tx, key)
	})
}

func (e *bboltEngine) WriteBatch(ops []Op) error {
	if len(ops) == 0 {
		return e.unlessClosed()
	}
	return e.update(userBytes(ops), func(tx *bolt.Tx) error {
		for i := range ops {
			if err := e.keys.bboltApply(tx, &ops[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// update runs fn in one committed transaction and counts it.
func (e *bboltEngine) update(user uint64, fn func(*bolt.Tx) error) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	if err := e.db.Update(fn); err != nil {
		return bboltError(err)
	}
	e.commits.Add(1)
	e.user.Add(user)
	return nil
}

// unlessClosed returns the result of a call that has nothing to do.
func (e *bboltEngine) unlessClosed() error {
	if !e.gate.enter() {
		return ErrClosed
	}
	e.gate.leave()
	return nil
}

func (e *bboltEngine) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	return bboltError(e.db.View(func(tx *bolt.Tx) error {
		e.keys.bboltScan(tx, start, n, fn)
		return nil
	}))
}

func (e *bboltEngine) Snapshot() (Reader, error) {
	if !e.gate.enter() {
		return nil, ErrClosed
	}
	defer e.gate.leave()
	tx, err := e.db.Begin(false)
	if err != nil {
		return nil, bboltError(err)
	}
	r := &bboltReader{engine: e, tx: tx}
	e.readers.add(r, func() error { return bboltError(tx.Rollback()) })
	return r, nil
}

// Flush syncs the file. It matters in relaxed mode only, because bbolt keeps nothing in memory and
// has no log.
func (e *bboltEngine) Flush() error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	if !e.relaxed {
		return nil
	}
	e.flushes.Add(1)
	return bboltError(e.db.Sync())
}

func (e *bboltEngine) SizeOnDisk() (int64, error) {
	if !e.gate.enter() {
		return 0, ErrClosed
	}
	defer e.gate.leave()
	return diskBytes(e.path)
}

func (e *bboltEngine) Stats() Stats {
	engine := e.db.Stats().TxStats
	commits := e.commits.Load()
	s := Stats{
		UserBytes:  e.user.Load(),
		MediaBytes: uint64(engine.GetPageAlloc()) + commits*e.page,
		Fences:     e.flushes.Load(),
	}
	if !e.relaxed {
		s.Fences += 2 * commits // data pages, then the meta page
	}
	return s
}

func (e *bboltEngine) Close() error {
	if !e.gate.close() {
		return nil
	}
	err := e.readers.endAll()
	return errors.Join(err, bboltError(e.db.Close()))
}

// Exceptions implements the method that [Exceptions] uses.
func (e *bboltEngine) Exceptions() []Exception {
	return append(relaxedExceptions(e.relaxed), KeyOver32KiB, DamageMayPanic)
}

// bboltReader is a read transaction kept open.
type bboltReader struct {
	engine *bboltEngine
	tx     *bolt.Tx
	ended  bool
}

func (r *bboltReader) Get(dst, key []byte) ([]byte, error) {
	if err := r.enter(); err != nil {
		return dst, err
	}
	defer r.engine.gate.leave()
	dst, found := r.engine.keys.bboltGet(r.tx, dst, key)
	if !found {
		return dst, ErrNotFound
	}
	return dst, nil
}

func (r *bboltReader) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.engine.gate.leave()
	r.engine.keys.bboltScan(r.tx, start, n, fn)
	return nil
}

func (r *bboltReader) Close() error {
	if !r.engine.gate.enter() {
		return nil // the engine's Close has ended it
	}
	defer r.engine.gate.leave()
	r.ended = true
	return r.engine.readers.end(r)
}

func (r *bboltReader) enter() error {
	if r.ended {
		return ErrTxClosed
	}
	if !r.engine.gate.enter() {
		return ErrClosed
	}
	return nil
}

func (c *keyCoding) bboltGet(tx *bolt.Tx, dst, key []byte) ([]byte, bool) {
	bucket := tx.Bucket(bboltData)
	if bucket == nil {
		return dst, false
	}
	value := bucket.Get(c.stored(key))
	if value == nil {
		return dst, false
	}
	return appendValue(dst, value), true
}

func (c *keyCoding) bboltApply(tx *bolt.Tx, op *Op) error {
	if op.expires() {
		return ErrNoExpiry
	}
	if op.Delete {
		return c.bboltDelete(tx, op.Key)
	}
	return c.bboltPut(tx, op.Key, op.Value)
}

func (c *keyCoding) bboltPut(tx *bolt.Tx, key, value []byte) error {
	stored, err := c.writable(key)
	if err != nil {
		return err
	}
	return tx.Bucket(bboltData).Put(stored, value)
}

func (c *keyCoding) bboltDelete(tx *bolt.Tx, key []byte) error {
	return tx.Bucket(bboltData).Delete(c.stored(key))
}

func (c *keyCoding) bboltScan(tx *bolt.Tx, start []byte, n int, fn func(key, value []byte) bool) {
	bucket := tx.Bucket(bboltData)
	if bucket == nil || n == 0 {
		return
	}
	cursor := bucket.Cursor()
	for k, v := cursor.Seek(c.stored(start)); k != nil; k, v = cursor.Next() {
		if n--; !fn(c.original(k), v) || n == 0 {
			return
		}
	}
}
