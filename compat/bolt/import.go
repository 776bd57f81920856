package bbolt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	stderrors "errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt/errors"
	"nvkv/compat/boltfile"
	"nvkv/kv"
)

// What an import leaves: the original under the first name, until it has ended its
// copy under the second.
const (
	originalSuffix = ".bbolt"
	importSuffix   = ".nvkv-import"
)

// importVariable is the environment variable that does what Options.RefuseImport does.
const importVariable = "NVKV_BBOLT_IMPORT"

// importBytes is about how much a transaction of an import takes.
const importBytes = 4 << 20

// takeOver imports the file of bbolt's that db.file is, or copies it where the database
// is opened read-only: then db.store is the copy.
func (db *DB) takeOver(mode os.FileMode, o *Options) error {
	if o.RefuseImport || os.Getenv(importVariable) == "refuse" {
		db.Logger().Errorf("%s is a file of bbolt, and is not to be imported", db.path)
		return errors.ErrInvalid
	}
	if err := lockFor(db.file, !db.readOnly, o.Timeout); err != nil {
		return err
	}
	fi, err := db.file.Stat()
	if err != nil {
		return err
	}
	src, err := boltfile.NewFile(db.file, fi.Size())
	if err != nil {
		return fmt.Errorf("%w: %w", errors.ErrChecksum, err)
	}
	if err := checked(src); err != nil {
		return fmt.Errorf("import of %s: %w", db.path, err)
	}
	if db.readOnly {
		db.store, err = copyOf(src)
		return err
	}
	if now, err := os.Stat(db.path); err != nil || !os.SameFile(now, fi) {
		return joinErrors(fmt.Errorf("import of %s: the file was replaced meanwhile", db.path), err)
	}
	if mode = fi.Mode().Perm(); mode&0o600 != 0o600 {
		mode |= 0o600
	}
	if err := db.replace(src, fi, mode); err != nil {
		return fmt.Errorf("import of %s: %w", db.path, err)
	}
	if err := db.file.Close(); err != nil {
		return err
	}
	db.file, err = os.OpenFile(db.path, os.O_RDWR, 0)
	return err
}

// lockFor waits for the lock of f as Open does for a store's.
func lockFor(f *os.File, exclusive bool, timeout time.Duration) error {
	const between = 20 * time.Millisecond
	for began := time.Now(); ; time.Sleep(between) {
		locked, err := lock(f, exclusive)
		switch {
		case err != nil || locked:
			return err
		case timeout > 0 && time.Since(began) > timeout-between:
			return errors.ErrTimeout
		}
	}
}

// checked says what is wrong with a file, if anything is.
func checked(src *boltfile.File) (err error) {
	src.Check(func(e error) bool {
		err = e
		return false
	})
	return err
}

// replace puts a store with the content of src in the place of the file, which stays
// under another name. Until the last step, which takes no time, the file is as it was.
func (db *DB) replace(src *boltfile.File, original os.FileInfo, mode os.FileMode) error {
	made := db.path + importSuffix
	kept, err := db.keepAs(src, original)
	if err != nil {
		return err
	}
	if err := removeImport(made); err != nil {
		return err
	}
	if err := importInto(made, mode, src); err != nil {
		return joinErrors(err, ignoreAbsent(os.Remove(made)))
	}
	if kept != "" {
		if err := os.Link(db.path, kept); err != nil && !stderrors.Is(err, os.ErrExist) {
			return joinErrors(err, os.Remove(made))
		}
	}
	if err := os.Rename(made, db.path); err != nil {
		return err
	}
	db.Logger().Infof("imported %s, a file of bbolt, which stays as %q", db.path, kept)
	return syncDir(filepath.Dir(db.path))
}

// keepAs returns the name under which the original is kept: the first of FILE.bbolt,
// FILE.bbolt.2 and so on that is free. A file that WriteTo wrote, and that nobody has
// changed, is a copy, and need not be kept where there is an original already: a member of
// a cluster may get one with each snapshot that it is sent. Then the name is "".
func (db *DB) keepAs(src *boltfile.File, original os.FileInfo) (string, error) {
	name := db.path + originalSuffix
	for i := 2; ; i++ {
		switch there, err := os.Lstat(name); {
		case stderrors.Is(err, os.ErrNotExist):
			return name, nil
		case err != nil:
			return "", err
		case os.SameFile(there, original): // an import did not come to its end
			return name, nil
		case src.Transaction() <= 1:
			return "", nil
		}
		name = fmt.Sprintf("%s%s.%d", db.path, originalSuffix, i)
	}
}

// removeImport removes what an import left that did not end.
func removeImport(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return ignoreAbsent(err)
	}
	defer f.Close()
	if foreign, err := isBolt(f); err != nil || foreign {
		return joinErrors(fmt.Errorf("%s is in the way", path), err)
	}
	return os.Remove(path)
}

func ignoreAbsent(err error) error {
	if stderrors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// importInto makes a store at path with the content of src, compares both, and closes
// it.
func importInto(path string, mode os.FileMode, src *boltfile.File) error {
	to, err := Open(path, mode, &Options{PageSize: src.PageBytes(), NoSync: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	return joinErrors(to.importAll(src), to.Close())
}

// copyOf returns a store in a file without a name, with the content of src.
func copyOf(src *boltfile.File) (*kv.DB, error) {
	f, err := os.CreateTemp("", "nvkv-bbolt-*")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := importInto(f.Name(), 0o600, src); err != nil {
		return nil, err
	}
	return openStore(f.Name(), 0o600, true, time.Second, 0)
}

// importAll copies src, and compares counts and checksums of what is there then.
func (db *DB) importAll(src *boltfile.File) error {
	i := &importer{db: db, sum: newSum()}
	err := src.Root().Walk(context.Background(), i.take)
	if i.tx != nil {
		if err != nil {
			return joinErrors(err, i.tx.Rollback())
		}
		err = i.tx.Commit()
	}
	if err != nil {
		return err
	}
	got := newSum()
	if err := db.View(func(tx *Tx) error { return got.bucket(&tx.root, 0) }); err != nil {
		return err
	}
	if got.n != i.sum.n || !bytes.Equal(got.h.Sum(nil), i.sum.h.Sum(nil)) {
		return fmt.Errorf("the copy has %d entries and the file %d, or others", got.n, i.sum.n)
	}
	return nil
}

// importer puts entries into a database as a walk through a file yields them.
type importer struct {
	db   *DB
	tx   *Tx
	size int
	at   *Bucket // where path leads; nil: not known
	path [][]byte
	sum  *contentSum
}

func (i *importer) take(path [][]byte, _ *boltfile.Bucket, e boltfile.Entry) (err error) {
	if i.size += len(e.Key) + len(e.Value); i.tx == nil || i.size > importBytes {
		if err := i.begin(); err != nil {
			return err
		}
	}
	i.sum.add(len(path), e.Key, e.Value, e.IsBucket, e.Sequence())
	if i.at == nil || !samePath(i.path, path) {
		i.at, i.path = &i.tx.root, path
		for _, name := range path {
			i.at = i.at.Bucket(name)
		}
	}
	if !e.IsBucket {
		if err := i.at.Put(e.Key, e.Value); err != nil {
			return fmt.Errorf("key %q, a value of %d bytes: %w", e.Key, len(e.Value), err)
		}
		return nil
	}
	b, err := i.at.CreateBucket(e.Key)
	if err != nil {
		return fmt.Errorf("bucket %q: %w", e.Key, err)
	}
	return b.SetSequence(e.Sequence())
}

// begin commits what is under way and begins the next transaction.
func (i *importer) begin() (err error) {
	if i.tx != nil {
		err = i.tx.Commit()
	}
	i.tx, i.at, i.size = nil, nil, 0
	if err == nil {
		i.tx, err = i.db.Begin(true)
	}
	return err
}

func samePath(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := len(a) - 1; i >= 0; i-- { // they differ at the end, if at all
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// contentSum is a checksum over entries, in the order in which a walk yields them that
// goes into each bucket as it comes.
type contentSum struct {
	h hash.Hash
	n int
}

func newSum() *contentSum { return &contentSum{h: sha256.New()} }

func (s *contentSum) add(depth int, key, value []byte, isBucket bool, sequence uint64) {
	var head [33]byte
	if isBucket {
		value, head[0] = nil, 1
	}
	for i, v := range []uint64{uint64(depth), uint64(len(key)), uint64(len(value)), sequence} {
		binary.LittleEndian.PutUint64(head[1+8*i:], v)
	}
	s.h.Write(head[:])
	s.h.Write(key)
	s.h.Write(value)
	s.n++
}

// bucket adds all of a bucket.
func (s *contentSum) bucket(b *Bucket, depth int) (err error) {
	defer caught(&err)
	c := b.Cursor()
	for ok := c.move(toFirst, nil); ok; ok = c.move(toNext, nil) {
		if c.tag() != tagBucket {
			s.add(depth, c.bare(), c.content(), false, 0)
			continue
		}
		nested := b.Bucket(c.bare())
		s.add(depth, c.bare(), nil, true, nested.Sequence())
		if err := s.bucket(nested, depth+1); err != nil {
			return err
		}
	}
	return nil
}
