package boltfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"nvkv/compat/boltfile"
)

// bucket is the expected content of a bucket.
type bucket struct {
	sequence uint64
	values   map[string]string
	buckets  map[string]*bucket
}

// list returns a line for each entry, buckets within buckets.
func (b *bucket) list(path string, to []string) []string {
	for k, v := range b.values {
		to = append(to, fmt.Sprintf("%s/%q=%q", path, k, v))
	}
	for k, n := range b.buckets {
		at := fmt.Sprintf("%s/%q", path, k)
		to = n.list(at, append(to, fmt.Sprintf("%s#%d", at, n.sequence)))
	}
	return to
}

func (b *bucket) sorted() []string { return slices.Sorted(slices.Values(b.list("", nil))) }

// randomBucket makes content of every shape: tiny buckets, long keys, values of several pages, no
// values.
func randomBucket(r *rand.Rand, depth, entries int) *bucket {
	b := &bucket{sequence: r.Uint64N(3), values: map[string]string{}, buckets: map[string]*bucket{}}
	for range r.IntN(entries + 1) {
		key := text(r, 1+r.IntN(1<<r.IntN(9)))
		if r.IntN(200) == 0 {
			key = text(r, boltfile.MaxKeyBytes)
		}
		if depth > 0 && r.IntN(12) == 0 {
			if b.values[key] == "" {
				delete(b.values, key)
				b.buckets[key] = randomBucket(r, depth-1, entries/2)
			}
		} else if depth < 3 && b.buckets[key] == nil {
			b.values[key] = text(r, r.IntN(1<<r.IntN(14)))
		}
	}
	return b
}

func text(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// write writes a bucket, as a Fill does.
func (b *bucket) write(w *boltfile.BucketWriter) error {
	w.SetSequence(b.sequence)
	var keys []string
	for k := range b.values {
		keys = append(keys, k)
	}
	for k := range b.buckets {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		var err error
		if n := b.buckets[k]; n != nil {
			err = w.Bucket([]byte(k), n.write)
		} else {
			err = w.Put([]byte(k), []byte(b.values[k]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill stores the content with bbolt.
func (b *bucket) fill(to interface {
	CreateBucket([]byte) (*bolt.Bucket, error)
}) error {
	for k, n := range b.buckets {
		in, err := to.CreateBucket([]byte(k))
		if err == nil {
			err = errors.Join(in.SetSequence(n.sequence), n.fill(in))
		}
		if err != nil {
			return err
		}
		for k, v := range n.values {
			if err := in.Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
	}
	return nil
}

// read returns the content of a file, read with this package.
func read(f *boltfile.File) ([]string, error) {
	var all []string
	err := f.Root().Walk(context.Background(), func(path [][]byte, _ *boltfile.Bucket, e boltfile.Entry) error {
		at := ""
		for _, name := range path {
			at += fmt.Sprintf("/%q", name)
		}
		if e.IsBucket {
			all = append(all, fmt.Sprintf("%s/%q#%d", at, e.Key, e.Sequence()))
		} else {
			all = append(all, fmt.Sprintf("%s/%q=%q", at, e.Key, e.Value))
		}
		return nil
	})
	slices.Sort(all)
	return all, err
}

// readBolt returns the content of a file, read with bbolt.
func readBolt(t *testing.T, path string) []string {
	t.Helper()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	check(t, err)
	defer db.Close()
	var all []string
	check(t, db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's check: %v", err)
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			all = listBolt(b, fmt.Sprintf("/%q", name), all)
			return nil
		})
	}))
	slices.Sort(all)
	return all
}

func listBolt(b *bolt.Bucket, at string, to []string) []string {
	to = append(to, fmt.Sprintf("%s#%d", at, b.Sequence()))
	_ = b.ForEach(func(k, v []byte) error {
		if v == nil {
			to = listBolt(b.Bucket(k), fmt.Sprintf("%s/%q", at, k), to)
		} else {
			to = append(to, fmt.Sprintf("%s/%q=%q", at, k, v))
		}
		return nil
	})
	return to
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
}

func open(t *testing.T, path string) *boltfile.File {
	t.Helper()
	f, err := boltfile.Open(path)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func noFaults(t *testing.T, f *boltfile.File) {
	t.Helper()
	f.Check(func(err error) bool {
		t.Errorf("check: %v", err)
		return true
	})
}

// TestWrite checks that bbolt reads the files of Write, and that its check finds nothing.
func TestWrite(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, entries := range []int{0, 1, 3, 20, 40, 60, 120, 200} {
		content := randomBucket(r, 3, entries)
		content.values = nil // the root has buckets only
		o := &boltfile.WriteOptions{PageBytes: []int{4096, 1024, 65536}[i%3]}
		var out bytes.Buffer
		n, err := boltfile.Write(&out, o, content.write)
		check(t, err)
		measured, err := boltfile.Measure(o, content.write)
		check(t, err)
		if n != int64(out.Len()) || measured != n || n%512 != 0 {
			t.Fatalf("Write: %d bytes, %d arrived, measured %d", n, out.Len(), measured)
		}
		path := filepath.Join(t.TempDir(), "out.db")
		check(t, os.WriteFile(path, out.Bytes(), 0o600))
		equal(t, readBolt(t, path), content.sorted())
		f := open(t, path)
		noFaults(t, f)
		got, err := read(f)
		check(t, err)
		equal(t, got, content.sorted())
	}
}

// TestWriteManyBuckets checks that a bucket of a few entries costs little more than its entries.
func TestWriteManyBuckets(t *testing.T) {
	content := &bucket{buckets: map[string]*bucket{}}
	for i := range 3000 {
		content.buckets[fmt.Sprintf("bucket%05d", i)] = &bucket{values: map[string]string{"k": "v"}}
	}
	n, err := boltfile.Measure(&boltfile.WriteOptions{PageBytes: 4096}, content.write)
	check(t, err)
	if n > 3000*100 {
		t.Errorf("3,000 buckets of an entry each take %d bytes", n)
	}
}

// TestRead checks that this package reads files that bbolt has written, deleted from and rewritten
// as bbolt does.
func TestRead(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, noFreelist := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "in.db")
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: noFreelist, PageSize: 1024, NoSync: true})
		check(t, err)
		for range 4 {
			content := randomBucket(r, 3, 80)
			check(t, db.Update(func(tx *bolt.Tx) error {
				var names [][]byte
				_ = tx.ForEach(func(name []byte, _ *bolt.Bucket) error { names = append(names, bytes.Clone(name)); return nil })
				for _, name := range names[:len(names)/2] {
					if err := tx.DeleteBucket(name); err != nil {
						return err
					}
				}
				return content.fill(tx)
			}))
		}
		check(t, db.Close())
		f := open(t, path)
		got, err := read(f)
		check(t, err)
		equal(t, got, readBolt(t, path))
		noFaults(t, f)
	}
}

// TestFind checks that names and keys find their entries, and no others.
func TestFind(t *testing.T) {
	inner := &bucket{sequence: 7, values: map[string]string{}}
	for i := range 2000 {
		inner.values[fmt.Sprintf("k%06d", 2*i)] = fmt.Sprint(i)
	}
	content := &bucket{buckets: map[string]*bucket{"outer": {buckets: map[string]*bucket{"inner": inner, "small": {}}}}}
	var out bytes.Buffer
	_, err := boltfile.Write(&out, nil, content.write)
	check(t, err)
	f, err := boltfile.NewFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	check(t, err)
	outer, err := f.Root().Bucket([]byte("outer"))
	check(t, err)
	b, err := outer.Bucket([]byte("inner"))
	check(t, err)
	if b.Sequence() != 7 {
		t.Errorf("sequence %d, want 7", b.Sequence())
	}
	for i := range 4000 {
		v, found, err := b.Get(fmt.Appendf(nil, "k%06d", i))
		check(t, err)
		if want := i%2 == 0; found != want || found && string(v) != fmt.Sprint(i/2) {
			t.Fatalf("key %d: %q, %v", i, v, found)
		}
	}
	for _, name := range []string{"", "a", "k000000", "zz"} {
		if _, err := b.Bucket([]byte(name)); !errors.Is(err, boltfile.ErrBucketNotFound) {
			t.Errorf("bucket %q: %v", name, err)
		}
	}
	for name, want := range map[string]bool{"inner": false, "small": true} {
		n, err := outer.Bucket([]byte(name))
		check(t, err)
		if empty, err := n.Empty(); empty != want || err != nil {
			t.Errorf("%s is empty: %v, %v", name, empty, err)
		}
	}
}

// TestWriteRefuses checks that content that bbolt could not hold is refused.
func TestWriteRefuses(t *testing.T) {
	in := func(fn func(b *boltfile.BucketWriter) error) error {
		_, err := boltfile.Measure(nil, func(root *boltfile.BucketWriter) error { return root.Bucket([]byte("b"), fn) })
		return err
	}
	var kept *boltfile.BucketWriter
	for what, err := range map[string]error{
		"no bucket":    second(boltfile.Measure(nil, func(root *boltfile.BucketWriter) error { return root.Put([]byte("k"), nil) })),
		"key of 0":     in(func(b *boltfile.BucketWriter) error { return b.Put(nil, nil) }),
		"key of 32769": in(func(b *boltfile.BucketWriter) error { return b.Put(make([]byte, boltfile.MaxKeyBytes+1), nil) }),
		"does not follow": in(func(b *boltfile.BucketWriter) error {
			return errors.Join(b.Put([]byte("b"), nil), b.Put([]byte("a"), nil))
		}),
		`"b" does not follow "b"`: in(func(b *boltfile.BucketWriter) error {
			return errors.Join(b.Put([]byte("b"), nil), b.Bucket([]byte("b"), func(*boltfile.BucketWriter) error { return nil }))
		}),
		"finished": in(func(b *boltfile.BucketWriter) error {
			if kept != nil {
				return kept.Put([]byte("k"), nil)
			}
			kept = b
			return b.Bucket([]byte("n"), func(n *boltfile.BucketWriter) error { kept = n; return nil })
		}),
		"pages of 100": second(boltfile.Measure(&boltfile.WriteOptions{PageBytes: 100}, (&bucket{}).write)),
	} {
		if what == "finished" {
			err = kept.Put([]byte("k"), nil)
		}
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

// TestOpenRefuses checks that other files and damaged files give different errors.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	whole := image(t)
	cases := map[string]struct {
		content []byte
		want    error
	}{
		"empty":    {nil, boltfile.ErrNotBolt},
		"text":     {bytes.Repeat([]byte("text "), 5000), boltfile.ErrNotBolt},
		"cut":      {whole[:len(whole)-4096], boltfile.ErrCorrupt},
		"one page": {whole[:4096], boltfile.ErrCorrupt},
		"version":  {flip(whole, 20, 4096+20), boltfile.ErrNotBolt},
		"metas":    {flip(whole, 33, 4096+33), boltfile.ErrCorrupt},
		"first":    {flip(whole, 33), nil},
		"second":   {flip(whole, 4096+33), nil},
	}
	for name, c := range cases {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, c.content, 0o600))
		f, err := boltfile.Open(path)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			f.Close()
		}
	}
	if _, err := boltfile.Open(dir); !errors.Is(err, boltfile.ErrNotBolt) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := boltfile.Open(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func flip(b []byte, at ...int) []byte {
	b = bytes.Clone(b)
	for _, i := range at {
		b[i] ^= 1
	}
	return b
}

// TestLocked checks that a file that bbolt has open for writing is not read.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bolt.Open(path, 0o600, nil)
	check(t, err)
	if _, err := boltfile.Open(path); !errors.Is(err, boltfile.ErrLocked) {
		t.Errorf("open elsewhere: %v", err)
	}
	check(t, db.Close())
	f, err := boltfile.Open(path)
	check(t, err)
	if _, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Millisecond}); err == nil {
		t.Error("bbolt opens for writing what is being read")
	}
	check(t, errors.Join(f.Close(), f.Close()))
}

// image returns a file of pages of 4,096 bytes with every kind of page.
func image(t testing.TB) []byte {
	t.Helper()
	content := randomBucket(rand.New(rand.NewPCG(5, 6)), 3, 60)
	content.values = nil
	var out bytes.Buffer
	_, err := boltfile.Write(&out, &boltfile.WriteOptions{PageBytes: 4096}, content.write)
	check(t, err)
	return out.Bytes()
}
