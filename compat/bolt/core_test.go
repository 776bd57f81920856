package bbolt_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func open(t testing.TB, o *bbolt.Options) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func check(t testing.TB, db *bbolt.DB) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCore(t *testing.T) {
	db := open(t, nil)
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("fruits"))
		if err != nil {
			return err
		}
		for i := range 1000 {
			if err := b.Put(fmt.Appendf(nil, "%04d", i), make([]byte, i)); err != nil {
				return err
			}
		}
		n, err := b.CreateBucket([]byte("0500x"))
		if err != nil {
			return err
		}
		return n.Put([]byte("a"), []byte{})
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, db)
	err = db.View(func(tx *bbolt.Tx) error {
		n := 0
		tx.Bucket([]byte("fruits")).ForEach(func(k, v []byte) error { n++; return nil })
		if n != 1001 {
			t.Error(n)
		}
		if v := tx.Bucket([]byte("fruits")).Bucket([]byte("0500x")).Get([]byte("a")); v == nil || len(v) != 0 {
			t.Error(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("fruits")) }); err != nil {
		t.Fatal(err)
	}
	check(t, db)
}
