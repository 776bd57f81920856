package nvkvethdb

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/ethdb/dbtest"
	"nvkv/kv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func open(t testing.TB, o *kv.Options) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"), o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// TestSuite is upstream's, on memory and on files.
func TestSuite(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		dbtest.TestDatabaseSuite(t, func() ethdb.KeyValueStore { return open(t, &kv.Options{Device: "mem", MaxBytes: 64 << 20}) })
	})
	t.Run("file", func(t *testing.T) {
		dbtest.TestDatabaseSuite(t, func() ethdb.KeyValueStore { return open(t, &kv.Options{Durability: kv.Relaxed}) })
	})
}

func key(i int) []byte { return fmt.Appendf(nil, "k%03d", i) }

// list returns keys and values that an iterator finds, and releases it.
func list(t testing.TB, it ethdb.Iterator) string {
	t.Helper()
	var out []string
	for it.Next() {
		out = append(out, fmt.Sprintf("%s=%s", it.Key(), it.Value()))
	}
	must(t, it.Error())
	it.Release()
	return strings.Join(out, " ")
}

// TestIteratorWhileWriting: an iterator finds what was there when it was made.
func TestIteratorWhileWriting(t *testing.T) {
	s := open(t, nil)
	for i := range 100 {
		must(t, s.Put(key(i), []byte("old")))
	}
	it := s.NewIterator([]byte("k"), []byte("01"))
	if it.Key() != nil || it.Value() != nil {
		t.Error("it stands on something before Next")
	}
	for i := 10; i < 100; i++ {
		if !it.Next() || string(it.Key()) != string(key(i)) || string(it.Value()) != "old" {
			t.Fatalf("%d: %q %q, %v", i, it.Key(), it.Value(), it.Error())
		}
		must(t, s.Put(key(i+1), []byte("new")))
		must(t, s.Delete(key(109-i)))
		if string(it.Key()) != string(key(i)) || string(it.Value()) != "old" {
			t.Fatalf("%d changed under it: %q %q", i, it.Key(), it.Value())
		}
	}
	for range 2 {
		if it.Next() || it.Key() != nil || it.Value() != nil {
			t.Errorf("more: %q", it.Key())
		}
	}
	it.Release()
	it.Release()
	if it.Next() {
		t.Error("it goes on after Release")
	}
	must(t, it.Error())
	left := s.NewIterator(nil, nil)
	left.Next()
	left.Release()
	if n := s.db.Metrics().Snapshots; n != 0 {
		t.Errorf("%d snapshots are open", n)
	}
}

// TestIteratorKeepsPrefix: the iterator's bounds are its own.
func TestIteratorKeepsPrefix(t *testing.T) {
	s := open(t, nil)
	for _, k := range []string{"a1", "a2", "b1"} {
		must(t, s.Put([]byte(k), nil))
	}
	prefix := make([]byte, 1, 10)
	prefix[0] = 'a'
	it := s.NewIterator(prefix, []byte("2"))
	prefix[0] = 'b'
	if got := list(t, it); got != "a2=" {
		t.Error(got)
	}
	if string(prefix[:2]) == "b2" {
		t.Error("the caller's slice was written")
	}
}

// TestBatchReuse: a batch may be written twice, and is empty after Reset.
func TestBatchReuse(t *testing.T) {
	s := open(t, nil)
	b := s.NewBatchWithSize(10)
	v := []byte("one")
	must(t, b.Put([]byte("a"), v))
	must(t, b.Put([]byte("b"), v))
	must(t, b.DeleteRange([]byte("b"), nil))
	must(t, b.Put([]byte("c"), v))
	must(t, b.Delete([]byte("d")))
	copy(v, "two")
	if n := b.ValueSize(); n != 4+4+1+4+1 {
		t.Errorf("%d bytes", n)
	}
	must(t, b.Write())
	must(t, s.Put([]byte("e"), v))
	must(t, b.Write())
	if got := list(t, s.NewIterator(nil, nil)); got != "a=one c=one" {
		t.Error(got)
	}
	b.Reset()
	if n := b.ValueSize(); n != 0 {
		t.Errorf("%d bytes after Reset", n)
	}
	must(t, s.Delete([]byte("a")))
	must(t, b.Put([]byte("f"), v))
	must(t, b.Write())
	if got := list(t, s.NewIterator(nil, nil)); got != "c=one f=two" {
		t.Error(got)
	}
	b.Close()
	must(t, b.Write())
}

// writer is a KeyValueWriter without ranges, whose Put fails from some point on.
type writer struct {
	left int
	seen string
}

var errEnough = errors.New("enough")

func (w *writer) Put(key, value []byte) error {
	if w.left--; w.left < 0 {
		return errEnough
	}
	w.seen += "+" + string(key)
	return nil
}

func (w *writer) Delete(key []byte) error {
	w.seen += "-" + string(key)
	return nil
}

// TestReplay: it goes in order, ends at the first error, and tells of ranges that the
// writer cannot delete.
func TestReplay(t *testing.T) {
	s := open(t, nil)
	b := s.NewBatch()
	for _, k := range []string{"a", "b", "c"} {
		must(t, b.Put([]byte(k), nil))
		must(t, b.Delete([]byte(k)))
	}
	w := &writer{left: 2}
	wantErr(t, "a Put that fails", b.Replay(w), errEnough)
	if w.seen != "+a-a+b-b" {
		t.Error(w.seen)
	}
	must(t, b.DeleteRange([]byte("a"), []byte("b")))
	wantErr(t, "a range", b.Replay(&writer{left: 3}), errNoRanges)
}

// TestClose: what is open fails after Close, and the store is found again.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := Open(path, &kv.Options{Durability: kv.Relaxed})
	must(t, err)
	must(t, s.Put([]byte("a"), []byte("1")))
	must(t, s.SyncKeyValue())
	must(t, s.Compact(nil, nil))
	if text, err := s.Stat(); err != nil || !strings.Contains(text, `"keys": 1`) {
		t.Errorf("%s, %v", text, err)
	}
	it := s.NewIterator(nil, nil)
	must(t, s.Close())
	must(t, s.Close())
	if it.Next() || it.Error() == nil {
		t.Error("an iterator goes on")
	}
	it.Release()
	it = s.NewIterator(nil, nil)
	if it.Next() || it.Key() != nil {
		t.Error("a new iterator finds something")
	}
	wantErr(t, "a new iterator", it.Error(), kv.ErrClosed)
	it.Release()
	wantErr(t, "SyncKeyValue", s.SyncKeyValue(), kv.ErrClosed)
	wantErr(t, "DeleteRange", s.DeleteRange(nil, nil), kv.ErrClosed)

	db, err := kv.Open(path, nil)
	must(t, err)
	again := New(db)
	_, err = again.Get([]byte("b"))
	wantErr(t, "an absent key", err, kv.ErrNotFound)
	must(t, again.Close())
	if v, err := again.Get([]byte("a")); err != nil || string(v) != "1" { // the store is its owner's
		t.Errorf("%q, %v", v, err)
	}
	must(t, db.Close())
}
