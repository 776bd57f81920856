package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"nvkv/compat"
	"nvkv/compat/boltfile"
)

func bboltFormat() Format {
	return Format{Name: "bbolt", Open: openBbolt, Create: createBbolt, Buckets: true, Keep: keepBbolt}
}

// bboltSource reads a file with package boltfile, which verifies everything.
type bboltSource struct {
	file   *boltfile.File
	path   string
	bucket [][]byte
}

func openBbolt(l Location) (Source, error) {
	file, err := boltfile.Open(l.Path)
	if err != nil {
		return nil, boltfileError(err)
	}
	return &bboltSource{file: file, path: l.Path, bucket: l.Bucket}, nil
}

// boltfileErrors maps package boltfile's errors to the sentinels that the other packages use.
var boltfileErrors = map[error]error{
	boltfile.ErrNotBolt: compat.ErrNotStore,
	boltfile.ErrCorrupt: compat.ErrCorrupt,
	boltfile.ErrLocked:  compat.ErrLocked,
}

func boltfileError(err error) error {
	for theirs, ours := range boltfileErrors {
		if errors.Is(err, theirs) {
			return fmt.Errorf("%w: %w", ours, err)
		}
	}
	return err
}

// fault is boltfileError for an error from reading the file.
func (s *bboltSource) fault(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.path, boltfileError(err))
}

func (s *bboltSource) Close() error { return s.file.Close() }

// Count walks the pages, which costs little compared with writing the entries elsewhere.
func (s *bboltSource) Count() int64 {
	bucket, err := s.named()
	if err != nil || s.bucket == nil {
		return -1 // Each will meet the damage again and report it
	}
	n := int64(0)
	err = bucket.Each(context.Background(), func(boltfile.Entry) error {
		n++
		return nil
	})
	if err != nil {
		return -1
	}
	return n
}

// named returns the bucket that the location names, or the root if it names the whole file.
func (s *bboltSource) named() (*boltfile.Bucket, error) {
	bucket := s.file.Root()
	for _, name := range s.bucket {
		nested, err := bucket.Bucket(name)
		if errors.Is(err, boltfile.ErrBucketNotFound) {
			return nil, fmt.Errorf("%s has no bucket %s", s.path, showBucket(s.bucket))
		}
		if err != nil {
			return nil, s.fault(err)
		}
		bucket = nested
	}
	return bucket, nil
}

func showBucket(names [][]byte) string { return quoted(bytes.Join(names, []byte("/"))) }

func (s *bboltSource) Each(ctx context.Context, fn func(key, value []byte) error) error {
	bucket, err := s.named()
	if err != nil {
		return err
	}
	var stopped error // error of fn, as opposed to errors of the file
	pass := func(key, value []byte) error {
		stopped = fn(key, value)
		return stopped
	}
	if s.bucket == nil {
		err = s.eachJoined(ctx, bucket, pass)
	} else {
		err = s.eachOf(ctx, bucket, pass)
	}
	if stopped != nil {
		return stopped
	}
	return err
}

// eachOf yields the entries of one bucket. A nested bucket is an error.
func (s *bboltSource) eachOf(ctx context.Context, bucket *boltfile.Bucket, fn func(key, value []byte) error) error {
	var nested error
	err := bucket.Each(ctx, func(e boltfile.Entry) error {
		if e.IsBucket {
			nested = fmt.Errorf("%s: bucket %s holds another, %s: convert the whole file, or that one",
				s.path, showBucket(s.bucket), quoted(e.Key))
			return nested
		}
		return fn(e.Key, e.Value)
	})
	if nested != nil {
		return nested
	}
	return s.fault(err)
}

// eachJoined yields the entries of all buckets. Before the entries of a bucket it yields an entry
// for the bucket itself if that is needed.
func (s *bboltSource) eachJoined(ctx context.Context, root *boltfile.Bucket, fn func(key, value []byte) error) error {
	var joined []byte
	return s.fault(root.Walk(ctx, func(path [][]byte, in *boltfile.Bucket, e boltfile.Entry) error {
		joined = joined[:0]
		for _, name := range path {
			joined = appendBucket(joined, name)
		}
		if !e.IsBucket {
			joined = appendEscaped(joined, e.Key)
			return fn(joined, e.Value)
		}
		nested, err := in.Nested(e)
		if err != nil {
			return err
		}
		empty, err := nested.Empty()
		if err != nil || !empty && e.Sequence() == 0 {
			return err
		}
		return fn(appendBucket(joined, e.Key), encodeSequence(e.Sequence()))
	}))
}

func encodeSequence(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

// bboltSink writes one transaction per batch.
type bboltSink struct {
	db     *bolt.DB
	bucket [][]byte // nil: keys are joined
	batch
	last      []byte // last key
	unordered bool
}

// These bound a bbolt transaction; the first that is reached ends it. Every commit writes the path
// to each changed leaf, so the bounds are larger than those of other engines.
const (
	bboltEntries = 1 << 17
	bboltBytes   = 32 << 20
)

// orderedFill is the fill of pages if keys come in order.
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

// bucketParent has the methods that a transaction and a bucket share.
type bucketParent interface {
	CreateBucket(name []byte) (*bolt.Bucket, error)
	CreateBucketIfNotExists(name []byte) (*bolt.Bucket, error)
	DeleteBucket(name []byte) error
}

// bboltOpenError maps bbolt's errors to the sentinels that the other packages use.
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

// clearBucket makes the bucket at path. If force is set, it first removes an existing bucket.
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
		return ErrExists // the transaction rolls back
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
	s.add(key, value, time.Time{})
	return nil
}

// write commits the batch. It sorts the batch first, because bbolt moves all later keys of a leaf
// at each insertion, and splits a leaf only at the commit.
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

func (s *bboltSink) Abort() { s.db.Close() } // the caller removes the file

// bboltWriter puts entries in one transaction.
type bboltWriter struct {
	tx     *bolt.Tx
	bucket [][]byte                // nil: keys are joined
	open   map[string]*bolt.Bucket // by joined path
	fill   float64                 // fill of pages; 0 is bbolt's default
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

// enter returns the bucket at a path. It makes missing buckets.
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

// keepBbolt copies a file to which a bucket is added. It keeps a lock on the original, so that no
// process writes changes that the copy would lack. bbolt, which writes to the copy, trusts it, so
// keepBbolt refuses a damaged file.
func keepBbolt(l Location, path string) (release func() error, err error) {
	if err := soundBbolt(l.Path); err != nil {
		return nil, err
	}
	db, err := bolt.Open(l.Path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Nanosecond}) // one attempt to lock
	if err != nil {
		return nil, bboltOpenError(l.Path, err)
	}
	err = db.View(func(tx *bolt.Tx) error { return tx.CopyFile(path, 0o666) })
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db.Close, nil
}

// soundBbolt returns the first fault of a bbolt file, or nil.
func soundBbolt(path string) error {
	file, err := boltfile.Open(path)
	if err != nil {
		return boltfileError(err)
	}
	defer file.Close() // nothing was written
	var fault error
	file.Check(func(err error) bool {
		fault = fmt.Errorf("%s: %w", path, boltfileError(err))
		return false
	})
	return fault
}
