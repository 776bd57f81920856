package bbolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

func update(t testing.TB, db *bbolt.DB, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, db *bbolt.DB, fn func(tx *bbolt.Tx)) {
	t.Helper()
	if err := db.View(func(tx *bbolt.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, got, want error) {
	t.Helper()
	if got != want { // programs compare so
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// fill makes bucket "b" with the keys.
func fill(t testing.TB, db *bbolt.DB, keys ...string) {
	t.Helper()
	update(t, db, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		for _, k := range keys {
			if err == nil {
				err = b.Put([]byte(k), []byte("v"+k))
			}
		}
		return err
	})
}

// TestReadTxOfManyGoroutines: one read-only Tx is used by many goroutines, while a
// writable one is open all the time.
func TestReadTxOfManyGoroutines(t *testing.T) {
	db := open(t, nil)
	fill(t, db, "1", "2", "3")
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n := 0
				c := tx.Bucket([]byte("b")).Cursor()
				for k, v := c.First(); k != nil; k, v = c.Next() {
					if string(v) != "v"+string(k) || string(tx.Bucket([]byte("b")).Get(k)) != string(v) {
						t.Errorf("%q has %q", k, v)
					}
					n++
				}
				if n != 3 || tx.Size()%512 != 0 {
					t.Errorf("%d keys, %d bytes", n, tx.Size())
				}
			}
		})
	}
	for i := range 20 {
		fill(t, db, fmt.Sprint(i+4))
	}
	wg.Wait()
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

// TestCursorEnds: a cursor stays on the last item when there is no next one, and on the
// first when there is none before it.
func TestCursorEnds(t *testing.T) {
	db := open(t, nil)
	fill(t, db, "1", "2", "3")
	steps := []struct{ move, want string }{
		{"next", ""}, {"prev", ""}, {"first", "1"}, {"prev", ""}, {"next", "2"}, {"next", "3"}, {"next", ""}, {"next", ""}, {"prev", "2"},
		{"last", "3"}, {"next", ""}, {"prev", "2"}, {"seek 4", ""}, {"next", ""}, {"prev", "3"}, {"seek 15", "2"}, {"prev", "1"}, {"seek ", "1"},
	}
	for _, writable := range []bool{false, true} {
		tx, err := db.Begin(writable)
		if err != nil {
			t.Fatal(err)
		}
		c := tx.Bucket([]byte("b")).Cursor()
		for i, s := range steps {
			var k []byte
			switch move, arg, _ := strings.Cut(s.move, " "); move {
			case "first":
				k, _ = c.First()
			case "last":
				k, _ = c.Last()
			case "next":
				k, _ = c.Next()
			case "prev":
				k, _ = c.Prev()
			case "seek":
				k, _ = c.Seek([]byte(arg))
			}
			if string(k) != s.want {
				t.Errorf("step %d, %s: %q, want %q", i, s.move, k, s.want)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// TestDeleteUnderCursor: deleting the item under a cursor, while it goes either way,
// neither skips nor repeats others.
func TestDeleteUnderCursor(t *testing.T) {
	for _, committed := range []bool{true, false} {
		db := open(t, nil)
		var keys []string
		for i := range 500 {
			keys = append(keys, fmt.Sprintf("%03d", i))
		}
		if committed {
			fill(t, db, keys...)
		}
		update(t, db, func(tx *bbolt.Tx) error {
			if !committed {
				b, _ := tx.CreateBucket([]byte("b"))
				for _, k := range keys {
					if err := b.Put([]byte(k), nil); err != nil {
						return err
					}
				}
			}
			c := tx.Bucket([]byte("b")).Cursor()
			n := 0
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				if n++; n%2 == 0 {
					continue
				}
				if err := c.Delete(); err != nil {
					return err
				}
			}
			left := 0
			for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
				if left++; string(k) != keys[len(keys)-2*left+1] {
					t.Errorf("key %d from the end is %s", left, k)
				}
				if err := c.Delete(); err != nil {
					return err
				}
			}
			if n != 500 || left != 250 {
				t.Errorf("%d, then %d", n, left)
			}
			return nil
		})
		check(t, db)
	}
}

// TestBucketErrors: which error comes where is what programs know.
func TestBucketErrors(t *testing.T) {
	db := open(t, nil)
	fill(t, db, "item")
	update(t, db, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("b"))
		nested, err := b.CreateBucket([]byte("nested"))
		if err != nil {
			return err
		}
		want(t, "deleting no bucket", b.DeleteBucket([]byte("none")), berrors.ErrBucketNotFound)
		want(t, "deleting an item as a bucket", b.DeleteBucket([]byte("item")), berrors.ErrIncompatibleValue)
		want(t, "deleting the bucket without a name", b.DeleteBucket(nil), berrors.ErrBucketNotFound)
		want(t, "deleting that of an empty bucket", nested.DeleteBucket(nil), berrors.ErrIncompatibleValue)
		want(t, "deleting a bucket as an item", b.Delete([]byte("nested")), berrors.ErrIncompatibleValue)
		want(t, "putting over a bucket", b.Put([]byte("nested"), nil), berrors.ErrIncompatibleValue)
		want(t, "an empty key", b.Put(nil, nil), berrors.ErrKeyRequired)
		want(t, "a long key", b.Put(make([]byte, bbolt.MaxKeySize+1), nil), berrors.ErrKeyTooLarge)
		want(t, "the longest key", b.Put(make([]byte, bbolt.MaxKeySize), nil), nil)
		want(t, "a value of 1 GiB", b.Put([]byte("k"), make([]byte, 1<<30)), berrors.ErrValueTooLarge)
		_, err = b.CreateBucket([]byte("nested"))
		want(t, "a bucket twice", err, berrors.ErrBucketExists)
		_, err = b.CreateBucket([]byte("item"))
		want(t, "a bucket over an item", err, berrors.ErrIncompatibleValue)
		_, err = b.CreateBucketIfNotExists([]byte("item"))
		want(t, "a bucket over an item, if there is none", err, berrors.ErrIncompatibleValue)
		_, err = b.CreateBucket(nil)
		want(t, "a bucket without a name", err, berrors.ErrBucketNameRequired)
		want(t, "moving a bucket to where it is", b.MoveBucket([]byte("nested"), b), berrors.ErrSameBuckets)
		want(t, "moving an item", b.MoveBucket([]byte("item"), nested), berrors.ErrIncompatibleValue)
		want(t, "moving nothing", b.MoveBucket([]byte("none"), nested), berrors.ErrBucketNotFound)
		if err := tx.MoveBucket([]byte("b"), nil, nested); err == nil {
			t.Error("a bucket was moved into one that lies in it")
		}
		want(t, "deleting", b.DeleteBucket([]byte("nested")), nil)
		want(t, "putting into a bucket that was deleted", nested.Put([]byte("k"), nil), berrors.ErrBucketNotFound)
		return nil
	})
	view(t, db, func(tx *bbolt.Tx) {
		want(t, "putting when reading", tx.Bucket([]byte("b")).Put([]byte("k"), nil), berrors.ErrTxNotWritable)
		_, err := tx.CreateBucket([]byte("c"))
		want(t, "a bucket when reading", err, berrors.ErrTxNotWritable)
	})
	check(t, db)
}

// TestEmptyValue: an empty value is there, and is not a bucket.
func TestEmptyValue(t *testing.T) {
	db := open(t, nil)
	fill(t, db)
	update(t, db, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("k"), nil) })
	view(t, db, func(tx *bbolt.Tx) {
		if v := tx.Bucket([]byte("b")).Get([]byte("k")); v == nil || len(v) != 0 {
			t.Errorf("the value is %v", v)
		}
		if k, v := tx.Bucket([]byte("b")).Cursor().First(); string(k) != "k" || v == nil {
			t.Errorf("%q has %v", k, v)
		}
	})
}

// TestSequence: sequences survive, also in a bucket that is moved and where nothing else
// changes.
func TestSequence(t *testing.T) {
	db := open(t, nil)
	fill(t, db)
	update(t, db, func(tx *bbolt.Tx) error {
		_, err := tx.Bucket([]byte("b")).NextSequence()
		return err
	})
	update(t, db, func(tx *bbolt.Tx) error {
		n, err := tx.Bucket([]byte("b")).NextSequence()
		if n != 2 {
			t.Errorf("the second number is %d", n)
		}
		_, err2 := tx.CreateBucket([]byte("to"))
		return errors.Join(err, err2, tx.MoveBucket([]byte("b"), nil, tx.Bucket([]byte("to"))))
	})
	view(t, db, func(tx *bbolt.Tx) {
		if n := tx.Bucket([]byte("to")).Bucket([]byte("b")).Sequence(); n != 2 {
			t.Errorf("after the move: %d", n)
		}
	})
}

// TestOnCommit: handlers run after a commit, when other transactions may begin, and not
// after a rollback.
func TestOnCommit(t *testing.T) {
	db := open(t, nil)
	ran := 0
	update(t, db, func(tx *bbolt.Tx) error {
		tx.OnCommit(func() { ran++; fill(t, db, "k") })
		tx.OnCommit(func() { ran++ })
		return nil
	})
	_ = db.Update(func(tx *bbolt.Tx) error {
		tx.OnCommit(func() { ran += 100 })
		return errRollback
	})
	if ran != 2 {
		t.Error(ran)
	}
}

// TestBatch: calls share transactions; one that fails or panics does so alone.
func TestBatch(t *testing.T) {
	db := open(t, nil)
	fill(t, db)
	var wg sync.WaitGroup
	var calls atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i == 7) {
					t.Errorf("call %d panics with %v", i, p)
				}
			}()
			err := db.Batch(func(tx *bbolt.Tx) error {
				calls.Add(1)
				switch i {
				case 3:
					return errRollback
				case 7:
					panic("seven")
				}
				return tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "%d", i), nil)
			})
			if (err != nil) != (i == 3) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	view(t, db, func(tx *bbolt.Tx) {
		if n := tx.Bucket([]byte("b")).Stats().KeyN; n != 48 {
			t.Errorf("%d keys", n)
		}
	})
	if calls.Load() < 50 {
		t.Errorf("%d calls", calls.Load())
	}
}

// TestCloseWaits: Close waits for transactions of both kinds; then there are no others.
func TestCloseWaits(t *testing.T) {
	for _, writable := range []bool{false, true} {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin(writable)
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- db.Close() }()
		select {
		case <-closed:
			t.Error("Close did not wait")
		case <-time.After(20 * time.Millisecond):
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		want(t, "closing", <-closed, nil)
		want(t, "closing twice", db.Close(), nil)
		_, err = db.Begin(writable)
		want(t, "beginning", err, berrors.ErrDatabaseNotOpen)
		want(t, "ending twice", tx.Rollback(), berrors.ErrTxClosed)
	}
}

// TestOpenWaits: a file that another has open is waited for, as long as was asked.
func TestOpenWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 10 * time.Millisecond})
	want(t, "opening a second time", err, berrors.ErrTimeout)
	opened := make(chan error)
	go func() {
		db, err := bbolt.Open(path, 0o600, nil) // for ever
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Errorf("it was opened twice: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	want(t, "opening after a while", <-opened, nil)
}

// TestOpenFile: the file may come from elsewhere, have a mode, and be renamed while it is
// open; several may read it.
func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	temp, err := os.CreateTemp(dir, "tmp-*")
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open("ignored", 0o600, &bbolt.Options{OpenFile: func(string, int, os.FileMode) (*os.File, error) { return temp, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if db.Path() != temp.Name() {
		t.Errorf("the path is %s", db.Path())
	}
	path := filepath.Join(dir, "db")
	if err := os.Rename(temp.Name(), path); err != nil {
		t.Fatal(err)
	}
	fill(t, db, "k")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	for range 2 {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		view(t, db, func(tx *bbolt.Tx) {
			if string(tx.Bucket([]byte("b")).Get([]byte("k"))) != "vk" {
				t.Error("the key is not there")
			}
		})
		want(t, "writing", db.Update(func(*bbolt.Tx) error { return nil }), berrors.ErrDatabaseReadOnly)
	}
	if _, err := bbolt.Open(filepath.Join(dir, "none"), 0o600, &bbolt.Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestStats: what programs read at every Begin.
func TestStats(t *testing.T) {
	db := open(t, nil)
	fill(t, db, "1")
	a, _ := db.Begin(false)
	b, _ := db.Begin(false)
	if s := db.Stats(); s.OpenTxN != 2 || s.TxN != 2 {
		t.Errorf("%d are open, %d were begun", s.OpenTxN, s.TxN)
	}
	_ = a.Rollback()
	_ = b.Rollback()
	if s := db.Stats(); s.OpenTxN != 0 || s.TxStats.GetWrite() == 0 {
		t.Errorf("%+v", s)
	}
	none := open(t, &bbolt.Options{NoStatistics: true})
	fill(t, none, "1")
	if none.Stats() != (bbolt.Stats{}) {
		t.Error("statistics that were not wanted")
	}
}

// TestFieldsAfterOpen: fields of DB count when they are changed.
func TestFieldsAfterOpen(t *testing.T) {
	db := open(t, nil)
	db.NoSync, db.NoFreelistSync, db.NoGrowSync, db.AllocSize = true, true, true, 1
	fill(t, db, "1")
	db.NoSync = false
	fill(t, db, "2")
	if err := db.Sync(); err != nil {
		t.Error(err)
	}
	db.MaxSize = 100_000
	err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("3"), make([]byte, 200_000)) })
	want(t, "growing beyond MaxSize", err, berrors.ErrMaxSizeReached)
	fill(t, db, "4")
	db.StrictMode = true
	fill(t, db, "5")
}

// TestManaged: what breaks the rules of the interface panics, and leaves the database
// usable.
func TestManaged(t *testing.T) {
	db := open(t, nil)
	fill(t, db, "1")
	for what, fn := range map[string]func(tx *bbolt.Tx) error{
		"managed tx commit not allowed":   func(tx *bbolt.Tx) error { return tx.Commit() },
		"managed tx rollback not allowed": func(tx *bbolt.Tx) error { return tx.Rollback() },
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, what) {
					t.Errorf("it panics with %q, not %q", p, what)
				}
			}()
			_ = db.Update(fn)
		}()
	}
	fill(t, db, "2")
}

// TestCursorReadsAhead: a cursor that goes on and on, in a read-only Tx, meets every item
// once, stops at the end of its bucket, and turns round where it stands.
func TestCursorReadsAhead(t *testing.T) {
	db := open(t, nil)
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("%04d", i))
	}
	fill(t, db, keys...)
	update(t, db, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("c"))
		return errors.Join(err, b.Put([]byte("other"), nil))
	})
	view(t, db, func(tx *bbolt.Tx) {
		c := tx.Bucket([]byte("b")).Cursor()
		n := 0
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if string(k) != keys[n] || string(v) != "v"+keys[n] {
				t.Fatalf("item %d is %q, %q", n, k, v)
			}
			n++
		}
		if n != 1000 {
			t.Errorf("%d items", n)
		}
		if k, _ := c.Next(); k != nil {
			t.Errorf("behind the last one: %q", k)
		}
		if k, _ := c.Prev(); string(k) != "0998" {
			t.Errorf("before the last one: %q", k)
		}
		c.First()
		for range 100 {
			c.Next()
		}
		if k, _ := c.Prev(); string(k) != "0099" {
			t.Errorf("back from 0100: %q", k)
		}
		if k, _ := c.Next(); string(k) != "0100" {
			t.Errorf("and on again: %q", k)
		}
	})
}

// TestRootSequence: the bucket of top-level buckets, which a cursor leads to, has a sequence that
// commits keep.
func TestRootSequence(t *testing.T) {
	db := open(t, nil)
	for want := uint64(1); want < 4; want++ {
		err := db.Update(func(tx *bbolt.Tx) error {
			if got, err := tx.Cursor().Bucket().NextSequence(); err != nil || got != want {
				t.Errorf("%d, %v; want %d", got, err, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(fmt.Append(nil, want)); return err })
		_ = db.View(func(tx *bbolt.Tx) error {
			if got := tx.Cursor().Bucket().Sequence(); got != want {
				t.Errorf("read: %d, want %d", got, want)
			}
			return nil
		})
	}
}
