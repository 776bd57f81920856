package kv

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestNothingIsCreatedOverBytes: a file with any byte that is not zero, wherever it is, is not an
// empty file, and opening does not change it. A file of zeros is an empty file.
func TestNothingIsCreatedOverBytes(t *testing.T) {
	for _, dir := range []string{testDir(t), t.TempDir()} {
		path := filepath.Join(dir, "s")
		db := openTest(t, path, nil)
		if err := db.Put([]byte("k"), make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		store, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		clear(store[:1<<20])
		clear(store[len(store)-1<<20:])
		one := make([]byte, 8<<20)
		one[5<<20+17] = 1
		for _, content := range [][]byte{store, one} {
			if bytes.Equal(content, make([]byte, len(content))) {
				content[3<<20] = 1
			}
			for _, o := range []*Options{nil, {ReadOnly: true}, {Device: "block"}} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if db, err := Open(path, o); err == nil {
					t.Errorf("%+v: opened", o)
					db.Close()
				} else if !errors.Is(err, ErrNotStore) && !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%+v: %v", o, err)
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
					t.Errorf("%+v: the file has changed, %v", o, err)
				}
			}
		}
		if err := os.WriteFile(path, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		openTest(t, path, nil)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
