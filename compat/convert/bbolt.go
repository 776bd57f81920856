package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"nvkv/compat"
)

func bboltFormat() Format {
	return Format{Name: "bbolt", Open: openBbolt, Create: createBbolt, Buckets: true, Keep: keepBbolt}
}

// bboltSource reads one transaction.
type bboltSource struct {
	db     *bolt.DB
	tx     *bolt.Tx
	path   string
	bucket [][]byte

	key, value []byte // of the entry at which step arrived
}

func openBbolt(l Location) (Source, error) {
	if _, err := os.Stat(l.Path); err != nil {
		return nil, err
	}
	s := &bboltSource{path: l.Path, bucket: l.Bucket}
	err := s.guard(func() error {
		var err error
		if s.db, err = openBboltReadOnly(l.Path); err != nil {
			return err
		}
		s.tx, err = s.db.Begin(false)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openBboltReadOnly(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Nanosecond}) // one attempt to lock
	return db, bboltOpenError(path, err)
}

// bboltOpenError puts bbolt's errors under the sentinels that everything else
// uses.
func bboltOpenError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("open %s: %w", path, compat.ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid):
		return fmt.Errorf("open %s: %w: no bbolt file", path, compat.ErrNotStore)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// guard runs fn, which reads the file, and turns the panics and memory faults
// by which bbolt answers to a damaged one into ErrCorrupt.
func (s *bboltSource) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s: %w: bbolt: %v", s.path, compat.ErrCorrupt, reason)
		}
	}()
	return fn()
}

func (s *bboltSource) Close() error {
	var rollback, closing error
	if s.tx != nil {
		rollback = s.tx.Rollback()
	}
	if s.db != nil {
		closing = s.db.Close()
	}
	return errors.Join(rollback, closing)
}

// Count walks the pages, which is little beside reading the entries.
func (s *bboltSource) Count() int64 {
	n := int64(-1)
	err := s.guard(func() error {
		bucket, err := s.named()
		if err != nil || bucket == nil {
			return err
		}
		n = int64(bucket.Stats().KeyN)
		return nil
	})
	if err != nil {
		return -1 // the damage is met again, and reported, by Each
	}
	return n
}

// named returns the bucket that the location names, or nil for the whole file.
func (s *bboltSource) named() (*bolt.Bucket, error) {
	if s.bucket == nil {
		return nil, nil
	}
	bucket := s.tx.Bucket(s.bucket[0])
	for _, name := range s.bucket[1:] {
		if bucket != nil {
			bucket = bucket.Bucket(name)
		}
	}
	if bucket == nil {
		return nil, fmt.Errorf("%s has no bucket %s", s.path, showBucket(s.bucket))
	}
	return bucket, nil
}

func showBucket(names [][]byte) string { return quoted(bytes.Join(names, []byte("/"))) }

func (s *bboltSource) Each(ctx context.Context, fn func(key, value []byte) error) error {
	var bucket *bolt.Bucket
	err := s.guard(func() (err error) {
		bucket, err = s.named()
		return err
	})
	if err != nil {
		return err
	}
	if bucket == nil {
		return s.eachJoined(ctx, nil, s.tx.Cursor(), s.tx.Bucket, fn)
	}
	cursor := bucket.Cursor()
	for more, nested, err := s.step(cursor.First); more || err != nil; more, nested, err = s.step(cursor.Next) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if nested {
			return fmt.Errorf("%s: bucket %s holds another, %s: convert the whole file, or that one",
				s.path, showBucket(s.bucket), quoted(s.key))
		}
		if err := fn(s.key, s.value); err != nil {
			return err
		}
	}
	return nil
}

// eachJoined walks a bucket whose joined keys start with prefix, and those in
// it, which child finds by name.
func (s *bboltSource) eachJoined(ctx context.Context, prefix []byte, cursor *bolt.Cursor, child func([]byte) *bolt.Bucket, fn func(key, value []byte) error) error {
	var joined []byte
	for more, nested, err := s.step(cursor.First); more || err != nil; more, nested, err = s.step(cursor.Next) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if nested {
			err = s.eachInBucket(ctx, appendBucket(bytes.Clone(prefix), s.key), bytes.Clone(s.key), child, fn)
		} else {
			joined = appendEscaped(append(joined[:0], prefix...), s.key)
			err = fn(joined, s.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachInBucket yields the entry that stands for a bucket, where there must be
// one, and then the bucket's own.
func (s *bboltSource) eachInBucket(ctx context.Context, prefix, name []byte, child func([]byte) *bolt.Bucket, fn func(key, value []byte) error) error {
	var bucket *bolt.Bucket
	var sequence uint64
	empty := false
	err := s.guard(func() error {
		bucket = child(name)
		if bucket == nil {
			return fmt.Errorf("%s: %w: bucket %s cannot be opened", s.path, compat.ErrCorrupt, quoted(name))
		}
		sequence = bucket.Sequence()
		first, _ := bucket.Cursor().First()
		empty = first == nil
		return nil
	})
	if err != nil {
		return err
	}
	if empty || sequence != 0 {
		if err := fn(prefix, encodeSequence(sequence)); err != nil {
			return err
		}
	}
	return s.eachJoined(ctx, prefix, bucket.Cursor(), bucket.Bucket, fn)
}

func encodeSequence(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

// step moves a cursor and copies the entry at which it arrives to s, so that
// a page which cannot be read is noticed here.
func (s *bboltSource) step(move func() (key, value []byte)) (more, nested bool, err error) {
	err = s.guard(func() error {
		key, value := move()
		more, nested = key != nil, value == nil
		s.key = append(s.key[:0], key...)
		s.value = append(s.value[:0], value...)
		return nil
	})
	return more, nested, err
}

// bboltSink writes one transaction per batch.
type bboltSink struct {
	db     *bolt.DB
	bucket [][]byte // nil: keys are joined
	batch
	last      []byte // key
	unordered bool
}

// Bounds of a bbolt transaction, whichever is met first. Every commit writes
// the path to each leaf that it touched, so they are larger than those of
// other engines.
const (
	bboltEntries = 1 << 17
	bboltBytes   = 32 << 20
)

// orderedFill is how full pages are made when keys come in order.
const orderedFill = 0.95

func createBbolt(l Location, force bool) (Sink, error) {
	db, err := bolt.Open(l.Path, 0o666, &bolt.Options{
		Timeout:      time.Nanosecond,
		FreelistType: bolt.FreelistMapType,
		NoSync:       true, // nothing counts before Finish, which syncs
		NoGrowSync:   true,
	})
	if err != nil {
		return nil, bboltOpenError(l.Path, err)
	}
	s := &bboltSink{db: db, bucket: l.Bucket, batch: batch{maxEntries: bboltEntries, maxBytes: bboltBytes}}
	if l.Bucket == nil {
		return s, nil
	}
	err = db.Update(func(tx *bolt.Tx) error { return clearBucket(tx, l.Bucket, force) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bucket %s: %w", showBucket(l.Bucket), err), db.Close())
	}
	return s, nil
}

// bucketParent is what a transaction and a bucket have in common.
type bucketParent interface {
	CreateBucket(name []byte) (*bolt.Bucket, error)
	CreateBucketIfNotExists(name []byte) (*bolt.Bucket, error)
	DeleteBucket(name []byte) error
}

// clearBucket makes the bucket at path, and removes the one that is there if
// it may.
func clearBucket(tx *bolt.Tx, path [][]byte, force bool) error {
	var parent bucketParent = tx
	last := len(path) - 1
	for _, name := range path[:last] {
		bucket, err := parent.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		parent = bucket
	}
	err := parent.DeleteBucket(path[last])
	switch {
	case err == nil && !force:
		return ErrExists // and the transaction rolls back
	case err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound):
		return err
	}
	_, err = parent.CreateBucket(path[last])
	return err
}

func (s *bboltSink) Put(key, value []byte) error {
	if s.full(key, value) {
		if err := s.write(); err != nil {
			return err
		}
	}
	s.unordered = s.unordered || bytes.Compare(key, s.last) < 0
	s.last = append(s.last[:0], key...)
	s.add(key, value)
	return nil
}

// write commits the batch. It is sorted before, because bbolt moves all later
// keys of a leaf at each insertion, and a leaf is split at the commit only.
func (s *bboltSink) write() error {
	if s.unordered {
		slices.SortStableFunc(s.ops, func(a, b compat.Op) int { return bytes.Compare(a.Key, b.Key) })
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		w := bboltWriter{tx: tx, bucket: s.bucket, open: make(map[string]*bolt.Bucket)}
		if !s.unordered {
			w.fill = orderedFill
		}
		for i := range s.ops {
			if err := w.put(s.ops[i].Key, s.ops[i].Value); err != nil {
				return fmt.Errorf("key %s: %w", quoted(s.ops[i].Key), err)
			}
		}
		return nil
	})
	s.reset()
	return err
}

func (s *bboltSink) Finish() error {
	if err := s.write(); err != nil {
		return err
	}
	if err := s.db.Sync(); err != nil {
		return err
	}
	return s.db.Close()
}

func (s *bboltSink) Abort() { s.db.Close() } // the file is thrown away

// bboltWriter puts entries in one transaction.
type bboltWriter struct {
	tx     *bolt.Tx
	bucket [][]byte                // nil: keys are joined
	open   map[string]*bolt.Bucket // by joined path
	fill   float64                 // of pages; 0 is bbolt's default
}

func (w *bboltWriter) put(key, value []byte) error {
	if w.bucket != nil {
		bucket, err := w.enter(w.bucket)
		if err != nil {
			return err
		}
		return bboltPutError(bucket.Put(key, value))
	}
	buckets, own, err := splitJoined(key)
	if err != nil {
		return err
	}
	if len(buckets) == 0 {
		return errors.New("is in no bucket: name one, bbolt:PATH/BUCKET")
	}
	bucket, err := w.enter(buckets)
	if err != nil {
		return err
	}
	if len(own) == 0 {
		return setSequence(bucket, value)
	}
	return bboltPutError(bucket.Put(own, value))
}

func bboltPutError(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrKeyRequired):
		return compat.ErrEmptyKey
	case errors.Is(err, bolterrors.ErrKeyTooLarge):
		return fmt.Errorf("%w: at most %d bytes", compat.ErrKeyTooLarge, bolt.MaxKeySize)
	case errors.Is(err, bolterrors.ErrIncompatibleValue):
		return errors.New("a bucket has the same name")
	}
	return err
}

// enter returns the bucket at a path, made as needed.
func (w *bboltWriter) enter(path [][]byte) (*bolt.Bucket, error) {
	var joined []byte
	for _, name := range path {
		joined = appendBucket(joined, name)
	}
	if bucket := w.open[string(joined)]; bucket != nil {
		return bucket, nil
	}
	var parent bucketParent = w.tx
	for _, name := range path {
		bucket, err := parent.CreateBucketIfNotExists(name)
		if errors.Is(err, bolterrors.ErrIncompatibleValue) {
			return nil, fmt.Errorf("bucket %s: a key has the same name", showBucket(path))
		}
		if err != nil {
			return nil, err
		}
		parent = bucket
	}
	bucket := parent.(*bolt.Bucket) // a path has at least one name
	if w.fill > 0 {
		bucket.FillPercent = w.fill
	}
	w.open[string(joined)] = bucket
	return bucket, nil
}

func setSequence(bucket *bolt.Bucket, value []byte) error {
	switch len(value) {
	case 0:
		return nil
	case 8:
		return bucket.SetSequence(binary.BigEndian.Uint64(value))
	}
	return fmt.Errorf("stands for a bucket and has a value of %d bytes, which is no sequence number", len(value))
}

// keepBbolt copies a file to which a bucket is added. It keeps a lock on the
// original, so that nobody writes what the copy would not have.
func keepBbolt(l Location, path string) (release func() error, err error) {
	db, err := openBboltReadOnly(l.Path)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error { return tx.CopyFile(path, 0o666) })
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db.Close, nil
}
