package bbolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	berrors "go.etcd.io/bbolt/errors"
	"nvkv/compat/boltfile"
)

// boltFile writes a file of bbolt's with a few hundred items.
func boltFile(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = boltfile.Write(f, nil, func(root *boltfile.BucketWriter) error {
		for i := range 3 {
			err := root.Bucket(fmt.Appendf(nil, "bucket %d", i), func(b *boltfile.BucketWriter) error {
				b.SetSequence(uint64(i))
				for j := range 300 * i {
					if err := b.Put(fmt.Appendf(nil, "%04d", j), make([]byte, j)); err != nil {
						return err
					}
				}
				return b.Bucket([]byte("nested"), func(b *boltfile.BucketWriter) error { return b.Put([]byte("k"), []byte("v")) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImported(t testing.TB, db *DB) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("bucket 2"))
		if b == nil || b.Sequence() != 2 || len(b.Get([]byte("0599"))) != 599 || string(b.Bucket([]byte("nested")).Get([]byte("k"))) != "v" {
			t.Error("something is missing")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestImport: opening a file of bbolt's imports it and keeps the original; a copy that
// WriteTo made is imported likewise, and is not kept beside an original.
func TestImport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	boltFile(t, path)
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkImported(t, db)
	if found := checkAll(t, db); found != "" {
		t.Error(found)
	}
	if kept, err := os.ReadFile(path + ".bbolt"); err != nil || !bytes.Equal(kept, original) {
		t.Errorf("the original: %d bytes, %v", len(kept), err)
	}
	again := filepath.Join(t.TempDir(), "copy")
	if err := db.View(func(tx *Tx) error { return tx.CopyFile(again, 0o600) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(again, path); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(path, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	checkImported(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 2 {
		t.Errorf("there are %v", names)
	}
}

// TestImportReadOnly: read-only, a file of bbolt's stays what it is.
func TestImportReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	boltFile(t, path)
	before, _ := os.ReadFile(path)
	for range 2 {
		db, err := Open(path, 0o600, &Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		checkImported(t, db)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 {
		t.Errorf("there are %v", names)
	}
}

// TestImportRefuses: what is damaged, locked, or not to be imported stays what it is.
func TestImportRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	boltFile(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, o *Options, want error) {
		t.Helper()
		before, _ := os.ReadFile(path)
		db, err := Open(path, 0o600, o)
		if err == nil {
			db.Close()
		}
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file has changed", what)
		}
		if names, _ := filepath.Glob(path + "*"); len(names) != 1 {
			t.Errorf("%s: there are %v", what, names)
		}
	}
	refused("the option", &Options{RefuseImport: true}, berrors.ErrInvalid)
	t.Setenv(importVariable, "refuse")
	refused("the variable", nil, berrors.ErrInvalid)
	t.Setenv(importVariable, "")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := lock(f, true); !ok {
		t.Fatal(err)
	}
	refused("another owner", &Options{Timeout: 30 * time.Millisecond}, berrors.ErrTimeout)
	f.Close()
	for _, at := range []int{16, os.Getpagesize() + 16, 3*os.Getpagesize() + 8, len(good) - os.Getpagesize() + 10} {
		bad := bytes.Clone(good)
		if at < 2*os.Getpagesize() {
			bad[16+60]++ // the checksum of one meta, and the page size of the other
			bad[os.Getpagesize()+16+60]++
		} else {
			bad[at] ^= 0xff
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(fmt.Sprintf("damage at byte %d", at), nil, nil)
	}
	if err := os.WriteFile(path, []byte("some text that is no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a text", nil, berrors.ErrInvalid)
}

// TestImportGoesOn: an import that was killed, before or after its original got its second
// name, is done again.
func TestImportGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	boltFile(t, path)
	if err := os.Link(path, path+originalSuffix); err != nil {
		t.Fatal(err)
	}
	half, err := Open(path+importSuffix, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	checkImported(t, db)
	if names, _ := filepath.Glob(path + "*"); len(names) != 2 {
		t.Errorf("there are %v", names)
	}
}
