package bbolt

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// contents writes all buckets, items and sequences below b.
func contents(b *Bucket) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d{", b.Sequence())
	_ = b.ForEach(func(k, v []byte) error {
		if v == nil {
			fmt.Fprintf(&out, "%q:%s ", k, contents(b.Bucket(k)))
		} else {
			fmt.Fprintf(&out, "%q=%q ", k, v)
		}
		return nil
	})
	return out.String() + "}"
}

// grow puts buckets in buckets, and items.
func grow(b *Bucket, r *rand.Rand, depth int) error {
	for i := range 3 + r.IntN(20) {
		key := fmt.Appendf(nil, "%02d", r.IntN(40))
		var err error
		if i%4 == 0 && depth > 0 {
			if in, e := b.CreateBucketIfNotExists(append(key, 'b')); e == nil {
				err = grow(in, r, depth-1)
			}
		} else if b.parent != nil {
			err = b.Put(key, make([]byte, r.IntN(1<<r.IntN(13))))
		}
		if err != nil {
			return err
		}
	}
	return b.SetSequence(r.Uint64N(5))
}

// shrink deletes some of what is in b, and says whether anything.
func shrink(b *Bucket, r *rand.Rand) (some bool) {
	var keys, nested [][]byte
	_ = b.ForEach(func(k, v []byte) error {
		if v == nil {
			nested = append(nested, k)
		} else {
			keys = append(keys, k)
		}
		return nil
	})
	for _, k := range keys {
		if r.IntN(3) == 0 {
			some = b.Delete(k) == nil || some
		}
	}
	for _, k := range nested {
		if r.IntN(3) > 0 {
			some = shrink(b.Bucket(k), r) || some
		}
		if r.IntN(3) == 0 {
			some = b.DeleteBucket(k) == nil || some
		}
	}
	return some
}

// TestDeletesWithoutBooks: a transaction that only deletes is carried out as on a full medium. What
// it deleted is gone, and nothing else. Its books say too much until they are counted: by the next
// transaction, or by Open where the process ended before.
func TestDeletesWithoutBooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	reopen := func() *DB {
		t.Helper()
		db, err := Open(path, 0o600, &Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db, r := reopen(), rand.New(rand.NewPCG(5, 6))
	defer func() { _ = db.Close() }()
	for round := range 12 {
		if err := db.Update(func(tx *Tx) error { return grow(&tx.root, r, 3) }); err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		if !shrink(&tx.root, r) {
			_ = tx.Rollback()
			continue
		}
		want := contents(&tx.root)
		if !tx.onlyDeleted() {
			t.Fatal("a transaction that only deleted is not known as one")
		}
		if err := tx.writeBooks(); err != nil {
			t.Fatal(err)
		}
		_ = tx.inner.Rollback()
		if err := tx.publishDeletes(); err != nil {
			t.Fatal(err)
		}
		_ = tx.end()
		_ = db.View(func(tx *Tx) error {
			if got := contents(&tx.root); got != want {
				t.Fatalf("round %d: it holds\n%s\nwant\n%s", round, got, want)
			}
			if n, err := tx.WriteTo(io.Discard); err != nil || n != tx.Size() {
				t.Errorf("a copy of %d bytes, Size is %d, %v", n, tx.Size(), err)
			}
			return nil
		})
		if wrong := checkAll(t, db); !strings.Contains(wrong, "counted anew") {
			t.Errorf("round %d, before the books are counted: %q", round, wrong)
		}
		if round%2 == 0 {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = reopen()
		} else if err := db.Update(func(*Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if wrong := checkAll(t, db); wrong != "" {
			t.Errorf("round %d: %s", round, wrong)
		}
	}
}

// TestOnlyDeleted: a transaction that does anything else, too, keeps its refusal.
func TestOnlyDeleted(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *Tx) error {
		for _, name := range []string{"a", "b"} {
			b, err := tx.CreateBucket([]byte(name))
			if err == nil {
				err = b.Put([]byte("k"), nil)
			}
			if err == nil {
				_, err = b.CreateBucket([]byte("in" + name))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, fn := range map[string]func(a *Bucket) error{
		"a put":             func(a *Bucket) error { return a.Put([]byte("x"), nil) },
		"a put as it was":   func(a *Bucket) error { return a.Put([]byte("k"), nil) },
		"a new bucket":      func(a *Bucket) error { _, err := a.CreateBucket([]byte("n")); return err },
		"a moved bucket":    func(a *Bucket) error { return a.MoveBucket([]byte("ina"), a.tx.Bucket([]byte("b"))) },
		"a sequence":        func(a *Bucket) error { _, err := a.NextSequence(); return err },
		"one further below": func(a *Bucket) error { return a.Bucket([]byte("ina")).SetSequence(7) },
		"the root's":        func(a *Bucket) error { return a.tx.root.SetSequence(7) },
	} {
		tx, err := db.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		if tx.onlyDeleted() {
			t.Error("a transaction that did nothing only deleted")
		}
		if err := tx.Bucket([]byte("b")).Delete([]byte("k")); err != nil || !tx.onlyDeleted() {
			t.Errorf("a delete: %v", err)
		}
		if err := fn(tx.Bucket([]byte("a"))); err != nil {
			t.Fatal(err)
		}
		if tx.onlyDeleted() {
			t.Errorf("%s beside a delete only deletes", what)
		}
		_ = tx.Rollback()
	}
}
