package kv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A store that is not mapped also gives its tail back at Close.
func TestCloseCutsBlockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	opts := &Options{Device: "block", SlabBytes: 8192}
	sizes := make([]int64, 0, 2)
	for _, write := range []func(db *DB) error{
		func(db *DB) error {
			for i := range 200 {
				if err := db.Put(fmt.Appendf(nil, "key%03d", i), make([]byte, 20000)); err != nil {
					return err
				}
			}
			return nil
		},
		func(db *DB) error {
			if err := db.DeleteRange([]byte("key001"), nil); err != nil {
				return err
			}
			return db.Compact(context.Background())
		},
	} {
		db, err := Open(path, opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(db); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fi.Size())
	}
	if sizes[1] > sizes[0]/2 {
		t.Errorf("the file of %d bytes has %d after nearly all was deleted", sizes[0], sizes[1])
	}
	db, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v, err := db.Get([]byte("key000")); err != nil || len(v) != 20000 {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	mustCheck(t, db)
}
