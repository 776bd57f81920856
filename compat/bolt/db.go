package bbolt

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt/errors"
	"nvkv/kv"
)

// DB is a database: buckets of items, in one file. It is safe for concurrent use, but
// for its exported fields, which must not be changed while a call that reads them
// runs.
type DB struct {
	// StrictMode checks the whole database after every commit, and panics where
	// something is wrong. It is for debugging.
	StrictMode bool

	// NoSync leaves it to the store when a commit becomes durable: within about 100 ms,
	// or with Sync. A crash may lose the newest commits, from some point on and each as
	// a whole; it damages nothing. It counts at each commit.
	NoSync bool

	// NoFreelistSync is accepted and changes nothing: which space is free is kept
	// without a list that a commit writes.
	NoFreelistSync bool

	// FreelistType is accepted and changes nothing.
	FreelistType FreelistType

	// NoGrowSync is accepted and changes nothing.
	NoGrowSync bool

	// PreLoadFreelist is accepted and changes nothing.
	PreLoadFreelist bool

	// MmapFlags is accepted and changes nothing.
	MmapFlags int

	// MaxBatchSize is how many calls Batch puts into one transaction at most; 0 or
	// less: one.
	MaxBatchSize int

	// MaxBatchDelay is how long Batch waits for others at most.
	MaxBatchDelay time.Duration

	// AllocSize is accepted and changes nothing: a file grows by a part of its size.
	AllocSize int

	// MaxSize bounds Tx.Size: a commit that would make it larger fails with
	// ErrMaxSizeReached. 0 or less: no bound.
	MaxSize int

	// Mlock is accepted and changes nothing.
	Mlock bool

	store      *kv.DB
	file       *os.File // that Options.OpenFile returned, or the one with the lock
	path       string
	openFile   func(string, int, os.FileMode) (*os.File, error)
	logger     Logger
	readOnly   bool
	stats      *Stats // nil: none are kept
	statsMu    sync.Mutex
	page       int
	free       int64 // bytes of Tx.Size that hold no entries, at the last commit; guarded by writer
	recountDue bool  // the books say too much: see full.go; guarded by writer
	mapped     bool  // what the store gives out stays valid until the Tx ends

	writer sync.Mutex   // held by the writable Tx
	users  sync.RWMutex // a read-only Tx holds it for reading, Close for writing
	opened atomic.Bool

	batchMu sync.Mutex
	batch   *batch
}

// The first values of DB's fields that Options do not give.
const (
	defaultMaxBatchSize  = 1000
	defaultMaxBatchDelay = 10 * time.Millisecond
	defaultAllocSize     = 16 << 20
)

// Path returns the file's name; "" after Close.
func (db *DB) Path() string {
	if !db.opened.Load() {
		return ""
	}
	return db.path
}

// GoString names the database and its file.
func (db *DB) GoString() string { return fmt.Sprintf("bolt.DB{path:%q}", db.Path()) }

// String names the database and its file.
func (db *DB) String() string { return fmt.Sprintf("DB<%q>", db.Path()) }

// Logger returns where the database says what it has to say, never nil.
func (db *DB) Logger() Logger {
	if db == nil || db.logger == nil {
		return silent
	}
	return db.logger
}

// IsReadOnly says whether the database was opened read-only.
func (db *DB) IsReadOnly() bool { return db.readOnly }

// Info tells the size of pages. Data is 0: the file is no array of them.
func (db *DB) Info() *Info { return &Info{PageSize: db.page} }

// Info is what DB.Info returns.
type Info struct {
	Data     uintptr
	PageSize int
}

// Begin starts a transaction, to be ended with Commit or Rollback. There is one writable
// one at a time; another waits until it ends. Read-only ones see the state of the last
// commit before them, wait for nobody and hold nobody up, except Close.
func (db *DB) Begin(writable bool) (t *Tx, err error) {
	if lg := db.Logger(); lg != silent {
		lg.Debugf("Starting a new transaction [writable: %t]", writable)
		defer func() { db.told(err, "Starting a new transaction [writable: %t]", writable) }()
	}
	if writable {
		return db.beginWrite()
	}
	return db.beginRead()
}

// told logs how something ended.
func (db *DB) told(err error, what string, args ...any) {
	if lg := db.Logger(); err != nil {
		lg.Errorf(what+" failed: %v", append(args, err)...)
	} else {
		lg.Debugf(what+" successfully", args...)
	}
}

func (db *DB) beginRead() (*Tx, error) {
	db.users.RLock()
	if !db.opened.Load() {
		db.users.RUnlock()
		return nil, errors.ErrDatabaseNotOpen
	}
	inner, err := db.store.Begin(false)
	if err != nil {
		db.users.RUnlock()
		return nil, db.translate(err)
	}
	t := newTx(db, inner, false)
	if db.stats != nil {
		db.statsMu.Lock()
		db.stats.TxN++
		db.stats.OpenTxN++
		db.statsMu.Unlock()
	}
	return t, nil
}

func (db *DB) beginWrite() (*Tx, error) {
	if db.readOnly {
		return nil, errors.ErrDatabaseReadOnly
	}
	db.writer.Lock()
	if !db.opened.Load() {
		db.writer.Unlock()
		return nil, errors.ErrDatabaseNotOpen
	}
	db.tryRecount()
	inner, err := db.store.Begin(true)
	if err != nil {
		db.writer.Unlock()
		return nil, db.translate(err)
	}
	t := newTx(db, inner, true)
	if err := t.readBooks(); err != nil {
		return nil, joinErrors(db.translate(err), t.end())
	}
	return t, nil
}

// Update runs fn with a writable transaction, which it commits if fn returns nil and
// rolls back if fn fails or panics. fn must not end the transaction.
func (db *DB) Update(fn func(*Tx) error) error {
	t, err := db.Begin(true)
	if err != nil {
		return err
	}
	if err := t.managing(fn); err != nil {
		_ = t.Rollback()
		return err
	}
	return t.Commit()
}

// View runs fn with a read-only transaction and ends that. fn must not end it.
func (db *DB) View(fn func(*Tx) error) error {
	t, err := db.Begin(false)
	if err != nil {
		return err
	}
	if err := t.managing(fn); err != nil {
		_ = t.Rollback()
		return err
	}
	return t.Rollback()
}

// managing runs fn with the Tx, which it rolls back where fn does not return.
func (tx *Tx) managing(fn func(*Tx) error) error {
	returned := false
	tx.managed = true
	defer func() {
		tx.managed = false
		if !returned && tx.db != nil {
			_ = tx.end()
		}
	}()
	err := fn(tx)
	returned = true
	return err
}

// Sync makes every commit durable that was made with NoSync.
func (db *DB) Sync() (err error) {
	if lg := db.Logger(); lg != silent {
		lg.Debugf("Syncing bbolt db (%s)", db.path)
		defer func() { db.told(err, "Syncing bbolt db (%s)", db.path) }()
	}
	if !db.opened.Load() {
		return errors.ErrDatabaseNotOpen
	}
	return db.store.Sync()
}

// Close waits until all transactions have ended and closes the database. A second
// call returns nil.
func (db *DB) Close() error {
	db.writer.Lock()
	defer db.writer.Unlock()
	db.users.Lock()
	defer db.users.Unlock()
	if !db.opened.Swap(false) {
		return nil
	}
	err := db.store.Close()
	if db.file != nil {
		err = joinErrors(err, db.file.Close())
	}
	return err
}
