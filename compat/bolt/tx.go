package bbolt

import (
	stderrors "errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt/errors"
	"go.etcd.io/bbolt/internal/common"
	"nvkv/kv"
)

// Tx is a transaction. What it gives out is valid until it ends and must not be
// written to. A read-only one may be used by several goroutines at once, each with
// cursors of its own; a writable one is for one goroutine.
//
// Where the store cannot be read, because it is damaged or its medium fails, methods
// that have no error to return panic with one: to say that a key is absent would be
// a lie.
type Tx struct {
	db       *DB
	inner    *kv.Tx
	writable bool
	managed  bool
	root     Bucket
	inRoot   common.InBucket
	handlers []func()
	stats    TxStats

	readMeta sync.Once // in a read-only Tx
	meta     *meta
	before   *meta        // as it was when a writable Tx began
	size     atomic.Int64 // that was told: WriteTo writes as much. 0: none was
	deleted  bool         // there is garbage to collect after the commit
	gone     *gone        // in a writable Tx
	changed  bool
	buffer   []byte

	// WriteFlag is accepted and changes nothing.
	WriteFlag int
}

func newTx(db *DB, inner *kv.Tx, writable bool) *Tx {
	t := &Tx{db: db, inner: inner, writable: writable}
	t.root = Bucket{InBucket: &t.inRoot, tx: t, prefix: prefixOf(spaceEntry, 0), FillPercent: DefaultFillPercent}
	if writable {
		t.root.books, t.gone = new(books), new(gone)
	}
	return t
}

// readMeta reads what the database's own record says.
func readMeta(inner *kv.Tx) (meta, error) {
	b, err := inner.Get(metaKey)
	if err != nil {
		return meta{}, err
	}
	return decodeMeta(b)
}

// readBooks reads it for a writable Tx.
func (tx *Tx) readBooks() (err error) {
	known := new([2]meta)
	if known[0], err = readMeta(tx.inner); err != nil {
		return err
	}
	known[1] = known[0]
	tx.meta, tx.before = &known[0], &known[1]
	tx.inRoot.SetInSequence(tx.meta.root)
	return nil
}

// known returns the meta that the Tx sees.
func (tx *Tx) known() *meta {
	if !tx.writable {
		tx.readMeta.Do(func() {
			m, err := readMeta(tx.inner)
			if err != nil {
				panic(&readError{err})
			}
			tx.meta = &m
		})
	}
	return tx.meta
}

// ID returns the number of the transaction: that of the last one that changed
// something, and one more in a writable Tx; -1 after its end.
func (tx *Tx) ID() int {
	if tx == nil || tx.db == nil {
		return -1
	}
	id := int(tx.known().tx)
	if tx.writable {
		id++
	}
	return id
}

// DB returns the database; nil after the end of the Tx.
func (tx *Tx) DB() *DB { return tx.db }

// Writable says whether the Tx may change something.
func (tx *Tx) Writable() bool { return tx.writable }

// Size returns how many bytes WriteTo writes: what the database takes as a file of
// bbolt, and what a compaction would give back (see Stats.FreePageN). A read-only Tx
// always gives the same answer.
func (tx *Tx) Size() int64 {
	must(tx)
	if tx.writable {
		return tx.meta.size(tx.space())
	}
	if size := tx.size.Load(); size != 0 {
		return size
	}
	tx.size.CompareAndSwap(0, tx.known().size(tx.inner.Space()))
	return tx.size.Load()
}

// size returns what entries take, and what they took before as far as the store has not
// given it back.
func (m *meta) size(s kv.Space) int64 {
	bytes := m.bytes()
	if s == (kv.Space{}) {
		return max(bytes, m.high) // the store does not know yet
	}
	return max(bytes, min(m.high, bytes+s.Free/sizeUnit*sizeUnit))
}

// space returns how the store's room will stand after a writable Tx, about: what it
// deletes is free then.
func (tx *Tx) space() kv.Space {
	s := tx.inner.Space()
	if s != (kv.Space{}) {
		s.Free += max(0, tx.before.bytes()-tx.meta.bytes())
	}
	return s
}

// must panics where the Tx has ended.
func must(tx *Tx) { assert(tx.db != nil, "tx closed") }

// assert panics as bbolt does where a program breaks a rule of its interface.
func assert(holds bool, text string) {
	if !holds {
		panic("assertion failed: " + text)
	}
}

// Stats returns what the Tx has done so far.
func (tx *Tx) Stats() TxStats { return tx.stats.copy() }

// Cursor returns a cursor over the top-level buckets.
func (tx *Tx) Cursor() *Cursor { return tx.root.Cursor() }

// Inspect returns the names of all buckets with how many items each has.
func (tx *Tx) Inspect() BucketStructure { return tx.root.Inspect() }

// Bucket returns the top-level bucket of a name, nil if there is none.
func (tx *Tx) Bucket(name []byte) *Bucket { return tx.root.Bucket(name) }

// CreateBucket is Bucket.CreateBucket at the top level.
func (tx *Tx) CreateBucket(name []byte) (*Bucket, error) { return tx.root.CreateBucket(name) }

// CreateBucketIfNotExists is Bucket.CreateBucketIfNotExists at the top level.
func (tx *Tx) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	return tx.root.CreateBucketIfNotExists(name)
}

// DeleteBucket is Bucket.DeleteBucket at the top level.
func (tx *Tx) DeleteBucket(name []byte) error { return tx.root.DeleteBucket(name) }

// MoveBucket is Bucket.MoveBucket; nil for src or dst is the top level.
func (tx *Tx) MoveBucket(child []byte, src *Bucket, dst *Bucket) error {
	if src == nil {
		src = &tx.root
	}
	if dst == nil {
		dst = &tx.root
	}
	return src.MoveBucket(child, dst)
}

// ForEach calls fn with each top-level bucket, until fn returns an error, and returns
// that.
func (tx *Tx) ForEach(fn func(name []byte, b *Bucket) error) error {
	return tx.root.ForEach(func(k, _ []byte) error { return fn(k, tx.root.Bucket(k)) })
}

// OnCommit has fn called after the Tx was committed, by the goroutine of Commit.
func (tx *Tx) OnCommit(fn func()) { tx.handlers = append(tx.handlers, fn) }

// Commit makes the changes visible at one instant, and durable unless DB.NoSync is
// set, and ends the Tx. After an error nothing of it is left, but where the store
// failed: then it may be there when the file is opened again, as a whole.
func (tx *Tx) Commit() (err error) {
	db := tx.db
	if lg := db.Logger(); lg != silent {
		id := tx.ID()
		lg.Debugf("Committing transaction %d", id)
		defer func() { db.told(err, "Committing transaction %d", id) }()
	}
	assert(!tx.managed, "managed tx commit not allowed")
	switch {
	case db == nil:
		return errors.ErrTxClosed
	case !tx.writable:
		return errors.ErrTxNotWritable
	}
	began := time.Now()
	if err := tx.publish(); err != nil {
		return joinErrors(db.translate(err), tx.end())
	}
	tx.stats.IncWriteTime(time.Since(began))
	if tx.deleted {
		if err := db.collect(tx.noSync()); err != nil {
			db.Logger().Errorf("what deleted buckets held will be freed later: %v", err)
		}
	}
	strict := db.StrictMode
	if err := tx.end(); err != nil {
		return err
	}
	if strict {
		db.strict()
	}
	for _, fn := range tx.handlers {
		fn()
	}
	return nil
}

func (tx *Tx) noSync() bool { return tx.db.NoSync }

// publish commits the inner Tx, with the books.
func (tx *Tx) publish() error {
	db := tx.db
	deletes := tx.onlyDeleted()
	if err := tx.writeBooks(); err != nil {
		return err
	}
	if !tx.noSync() {
		if err := tx.inner.SetDurability(kv.Sync); err != nil {
			return err
		}
	}
	if err := tx.inner.Commit(); full(err) && deletes {
		if err := tx.publishDeletes(); err != nil {
			return err
		}
		db.tryRecount()
		return nil
	} else if err != nil {
		return err
	}
	db.free = tx.meta.high - tx.meta.bytes()
	return nil
}

// writeBooks writes the entries of buckets whose usage or sequence changed, and the
// database's own.
func (tx *Tx) writeBooks() error {
	if err := tx.root.flush(); err != nil {
		return err
	}
	tx.meta.root = tx.inRoot.InSequence()
	if !tx.changed && *tx.meta == *tx.before {
		return nil
	}
	tx.meta.tx++
	tx.meta.high = tx.meta.size(tx.space())
	if most := tx.db.MaxSize; most > 0 && tx.meta.high > int64(most) && tx.meta.high > tx.before.high {
		return errors.ErrMaxSizeReached
	}
	return tx.inner.Put(metaKey, tx.meta.encode())
}

// strict checks the database, and panics where something is wrong.
func (db *DB) strict() {
	var found []error
	err := db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			found = append(found, err)
		}
		return nil
	})
	if err := stderrors.Join(append(found, err)...); err != nil {
		panic("check fail: " + err.Error())
	}
}

// Rollback ends the Tx and drops its changes.
func (tx *Tx) Rollback() error {
	assert(!tx.managed, "managed tx rollback not allowed")
	if tx.db == nil {
		return errors.ErrTxClosed
	}
	return tx.end()
}

// end ends the Tx; what was not committed is gone.
func (tx *Tx) end() error {
	db := tx.db
	if db == nil {
		return nil
	}
	tx.db = nil
	err := tx.inner.Rollback()
	db.account(tx)
	if tx.writable {
		db.writer.Unlock()
	} else {
		db.users.RUnlock()
	}
	return err
}

// Copy writes the whole database to w.
//
// Deprecated: use WriteTo.
func (tx *Tx) Copy(w io.Writer) error {
	_, err := tx.WriteTo(w)
	return err
}

// CopyFile writes the whole database to a file; see WriteTo.
func (tx *Tx) CopyFile(path string, mode os.FileMode) error {
	f, err := tx.db.openFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(f)
	return joinErrors(err, f.Close())
}

// Page describes a page of the file that WriteTo would write, as far as that is known
// without laying it out; nil behind its end.
func (tx *Tx) Page(id int) (*common.PageInfo, error) {
	if tx.db == nil {
		return nil, errors.ErrTxClosed
	}
	page := int64(tx.db.page)
	info := &common.PageInfo{ID: id, Type: "leaf"}
	switch at := int64(id) * page; {
	case id < 0 || at >= tx.Size():
		return nil, nil
	case id < 2:
		info.Type = "meta"
	case id == 2:
		info.Type = "freelist"
	case at >= tx.known().bytes():
		info.Type = "free"
	}
	return info, nil
}

// joinErrors returns the first of two errors, with the second where both are.
func joinErrors(a, b error) error {
	switch {
	case b == nil:
		return a
	case a == nil:
		return b
	}
	return fmt.Errorf("%w; %w", a, b)
}
