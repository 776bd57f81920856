package bbolt

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// nestTwo makes a bucket with items and with nested buckets that have some.
func nestTwo(tx *Tx) error {
	top, err := tx.CreateBucket([]byte("top"))
	for i := 0; i < 2500 && err == nil; i++ {
		if err = top.Put(fmt.Appendf(nil, "item %d", i), make([]byte, 100)); err != nil {
			break
		}
		var b *Bucket
		if b, err = top.CreateBucket(fmt.Appendf(nil, "bucket %d", i)); err == nil && i%10 == 0 {
			err = b.Put([]byte("k"), make([]byte, 2000))
		}
	}
	return err
}

// TestGarbageIsCollectedAtOpen: what a crash leaves of a deleted bucket between the
// commit and the end of its collection is freed by the next Open, nested buckets included.
func TestGarbageIsCollectedAtOpen(t *testing.T) {
	for _, at := range []struct {
		name    string
		collect func(db *DB, bucket uint64) error
	}{
		{"nothing was done", func(*DB, uint64) error { return nil }},
		{"some nested buckets were taken out", buryOnce},
		{"items are gone, their record is there", func(db *DB, bucket uint64) error {
			p := prefixOf(spaceEntry, bucket)
			end := p.end()
			return joinErrors(db.buryNested(bucket), db.store.DeleteRange(p[:], end[:]))
		}},
	} {
		t.Run(at.name, func(t *testing.T) { testGarbage(t, at.collect) })
	}
}

// buryOnce is a part of buryNested.
func buryOnce(db *DB, bucket uint64) error {
	inner, err := db.store.Begin(true)
	if err != nil {
		return err
	}
	n, err := db.buryMore(inner, bucket)
	if err == nil && n != nestedAtOnce {
		err = fmt.Errorf("%d buckets were taken out", n)
	}
	return err
}

func testGarbage(t *testing.T, collect func(db *DB, bucket uint64) error) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(nestTwo); err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *Tx) error {
		err := tx.DeleteBucket([]byte("top"))
		tx.deleted = false // as if the process were killed after the commit
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if keys := db.store.Metrics().Keys; keys < 5000 {
		t.Errorf("%d keys are left", keys)
	}
	bucket, kind, err := db.garbage()
	if err != nil || len(kind) != 1 || kind[0] != holdsBuckets {
		t.Fatalf("the record of bucket %d is %x: %v", bucket, kind, err)
	}
	if err := collect(db, bucket); err != nil {
		t.Fatal(err)
	}
	if found := checkAll(t, db); found != "" {
		t.Errorf("with garbage: %s", found)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(path, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if keys := db.store.Metrics().Keys; keys != 2 { // the record of the database, and the mark
		t.Errorf("%d keys are left after opening", keys)
	}
	if found := checkAll(t, db); found != "" {
		t.Errorf("after opening: %s", found)
	}
}

func checkAll(t *testing.T, db *DB) string {
	t.Helper()
	var found []string
	err := db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			found = append(found, err.Error())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(found, "; ")
}

// TestCheckFinds: Check finds items of a bucket that is not there, and books that do not
// say what there is.
func TestCheckFinds(t *testing.T) {
	db := openFor(t, nil)
	if err := db.Update(nestTwo); err != nil {
		t.Fatal(err)
	}
	p := prefixOf(spaceEntry, 99_999)
	stray := append(p[:], "stray"...)
	if err := db.store.Put(stray, []byte{tagItem}); err != nil {
		t.Fatal(err)
	}
	if found := checkAll(t, db); !strings.Contains(found, "bucket 99999, which is not there") {
		t.Errorf("found: %s", found)
	}
	if err := db.store.Delete(stray); err != nil {
		t.Fatal(err)
	}
	p = prefixOf(spaceEntry, 1)
	if err := db.store.Put(append(p[:], "behind its back"...), []byte{tagItem}); err != nil {
		t.Fatal(err)
	}
	if found := checkAll(t, db); !strings.Contains(found, "books say") {
		t.Errorf("found: %s", found)
	}
}

// TestDeleteBucketIsShort: deleting a bucket costs its transaction a few records, however
// much there is in it.
func TestDeleteBucketIsShort(t *testing.T) {
	db := openFor(t, nil)
	if err := db.Update(nestTwo); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.DeleteBucket([]byte("top")); err != nil {
		t.Fatal(err)
	}
	if n := tx.stats.Write; n > 3 {
		t.Errorf("%d writes", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if keys := db.store.Metrics().Keys; keys != 2 { // the record of the database, and the mark
		t.Errorf("%d keys are left", keys)
	}
}
