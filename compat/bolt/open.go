package bbolt

import (
	"bytes"
	stderrors "errors"
	"fmt"
	"math"
	"os"
	"time"

	"go.etcd.io/bbolt/errors"
	"nvkv/alloc"
	"nvkv/compat/boltfile"
	"nvkv/kv"
)

const (
	minPage = 1 << 10
	maxPage = 16 << 20
)

// Open opens the database in a file, and makes one where there is no file, or an empty
// one. A file of bbolt's own is imported first: its content goes into a new store beside
// it, is compared, and takes the file's name; the original stays as FILE.bbolt. Opened
// read-only such a file stays what it is, and a copy of it is read.
func Open(path string, mode os.FileMode, options *Options) (db *DB, err error) {
	if options == nil {
		options = DefaultOptions
	}
	db = newDB(options)
	if lg := db.Logger(); lg != silent {
		lg.Infof("Opening db file (%s) with mode %s and with options: %s", path, mode, options)
		defer func() {
			if err != nil {
				lg.Errorf("Opening bbolt db (%s) failed: %v", path, err)
			} else {
				lg.Infof("Opening bbolt db (%s) successfully", path)
			}
		}()
	}
	if err := db.openPath(path, mode, options); err != nil {
		if db.store != nil {
			err = joinErrors(err, db.store.Close())
		}
		if db.file != nil {
			_ = db.file.Close()
		}
		return nil, err
	}
	db.opened.Store(true)
	return db, nil
}

// newDB returns a database that has what options say, and no file.
func newDB(o *Options) *DB {
	db := &DB{
		NoSync: o.NoSync, NoFreelistSync: o.NoFreelistSync, FreelistType: o.FreelistType, NoGrowSync: o.NoGrowSync,
		PreLoadFreelist: o.PreLoadFreelist || !o.ReadOnly, MmapFlags: o.MmapFlags, Mlock: o.Mlock, MaxSize: o.MaxSize,
		MaxBatchSize: defaultMaxBatchSize, MaxBatchDelay: defaultMaxBatchDelay, AllocSize: defaultAllocSize,
		openFile: o.OpenFile, logger: o.Logger, readOnly: o.ReadOnly,
	}
	if db.openFile == nil {
		db.openFile = os.OpenFile
	}
	if !o.NoStatistics {
		db.stats = new(Stats)
	}
	return db
}

func (db *DB) openPath(path string, mode os.FileMode, o *Options) error {
	flag := os.O_RDWR | os.O_CREATE
	if db.readOnly {
		flag = os.O_RDONLY
	}
	var err error
	if db.file, err = db.openFile(path, flag, mode); err != nil {
		return err
	}
	db.path = db.file.Name()
	if foreign, err := isBolt(db.file); err != nil {
		return err
	} else if foreign {
		if err := db.takeOver(mode, o); err != nil {
			return err
		}
	}
	if db.store == nil {
		if db.store, err = openStore(db.path, mode, db.readOnly, o.Timeout, o.MaxSize); err != nil {
			return err
		}
	}
	db.mapped = db.store.Info().Mapped
	if err := db.begin(o.PageSize); err != nil {
		return err
	}
	if db.readOnly {
		return nil
	}
	db.tryRecount()
	if err := db.collect(false); !full(err) {
		return err
	}
	return nil // a later commit will find room
}

// openStore opens the store in a file. A commit says for itself whether it is durable:
// see Tx.Commit.
func openStore(path string, mode os.FileMode, readOnly bool, timeout time.Duration, most int) (*kv.DB, error) {
	if timeout <= 0 {
		timeout = math.MaxInt64
	}
	o := &kv.Options{ReadOnly: readOnly, FileMode: mode.Perm(), Durability: kv.Relaxed, LockTimeout: timeout}
	if most > 0 {
		var err error
		if o.SlabBytes, o.MaxBytes, err = slabsFor(int64(most)); err != nil {
			return nil, err
		}
	}
	s, err := kv.Open(path, o)
	switch {
	case err == nil:
		return s, nil
	case stderrors.Is(err, kv.ErrLocked):
		return nil, errors.ErrTimeout
	case stderrors.Is(err, kv.ErrNotStore):
		return nil, errors.ErrInvalid
	case stderrors.Is(err, kv.ErrVersion):
		return nil, errors.ErrVersionMismatch
	case stderrors.Is(err, kv.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", errors.ErrChecksum, err)
	}
	return nil, err
}

// Slabs that a new store may have, the default among them.
const (
	largestSlab  = 64 << 10
	smallestSlab = 16 << 10
)

// slabsFor returns with what slabs a store is made of which Tx.Size is at most that much, and how
// long its file may be. A small one has small slabs, because an empty store has ten of them. The
// file has room for more than its content, so that Tx.Size meets its bound first, and there is room
// for what deletes a bucket: its record, which comes before its items go.
func slabsFor(most int64) (slab int, bytes int64, err error) {
	for slab = largestSlab; ; slab /= 2 {
		least, err := alloc.LeastBytes(slab)
		if err != nil || least <= most/4 || slab == smallestSlab {
			return slab, least + most + most/2 + 8*int64(slab), err
		}
	}
}

// begin reads the database's own record, and writes it where the store is new.
func (db *DB) begin(page int) error {
	inner, err := db.store.Begin(false)
	if err != nil {
		return err
	}
	m, err := readMeta(inner)
	space := inner.Space()
	marked, noMark := inner.Has(booksKey)
	empty := true
	for range inner.All(nil, nil) {
		empty = false
		break
	}
	err = joinErrors(err, joinErrors(joinErrors(inner.Err(), noMark), inner.Rollback()))
	switch {
	case err == nil:
		db.recountDue = !marked
	case !stderrors.Is(err, kv.ErrNotFound):
		return err
	case !empty:
		return fmt.Errorf("%w: a store of nvkv without buckets", errors.ErrInvalid)
	default:
		if m, err = db.create(page); err != nil {
			return err
		}
	}
	db.page = int(m.page)
	db.free = m.size(space) - m.bytes()
	if db.stats != nil {
		db.countFree()
	}
	return nil
}

// create writes the record of a new database.
func (db *DB) create(page int) (meta, error) {
	if page < minPage || page > maxPage || page&(page-1) != 0 {
		page = os.Getpagesize()
	}
	m := meta{page: uint64(page), next: 1, tx: 1}
	m.high = m.bytes()
	if db.readOnly {
		return m, nil
	}
	b := db.store.NewBatch()
	b.Put(metaKey, m.encode())
	b.Put(booksKey, []byte{tagMeta})
	if err := db.store.Write(b); err != nil {
		return m, db.translate(err)
	}
	return m, db.store.Sync()
}

// translate gives errors of the store the names that programs look for, where there
// are such.
func (db *DB) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case stderrors.Is(err, kv.ErrClosed):
		return errors.ErrDatabaseNotOpen
	case stderrors.Is(err, kv.ErrFull) && db.MaxSize > 0:
		return errors.ErrMaxSizeReached
	case stderrors.Is(err, kv.ErrReadOnly):
		return errors.ErrDatabaseReadOnly
	case stderrors.Is(err, kv.ErrKeyTooLarge):
		return errors.ErrKeyTooLarge
	case stderrors.Is(err, kv.ErrValueTooLarge):
		return errors.ErrValueTooLarge
	}
	return err
}

// storeMagic is what a store of nvkv begins with.
var storeMagic = []byte("\x00\x89nvkv")

// isBolt says whether a file is one of bbolt's, perhaps a damaged one. That a store of
// nvkv may hold pieces of such a file does not make it one.
func isBolt(f *os.File) (bool, error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return false, err
	}
	var head [8]byte
	if n, _ := f.ReadAt(head[:], 0); bytes.HasPrefix(head[:n], storeMagic) {
		return false, nil
	}
	_, err = boltfile.NewFile(f, fi.Size())
	return err == nil || stderrors.Is(err, boltfile.ErrCorrupt), nil
}
