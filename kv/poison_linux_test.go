//go:build linux && !race

package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// TestR13_PoisonedLineInMarkedSlab: a page of a slab that a recovery must scan cannot be read. The
// opening succeeds and reports it, and every other key is there.
func TestR13_PoisonedLineInMarkedSlab(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	const keys = 200
	value := make([]byte, 1000)
	poisoned := nvmap.Off(0)
	on := map[int]bool{} // keys with a record that touches the poisoned page
	for i := range keys {
		if err := db.Put(fmt.Appendf(nil, "key%03d", i), value); err != nil {
			t.Fatal(err)
		}
		o := btree.RefOff(recordOf(t, db, fmt.Appendf(nil, "key%03d", i)))
		if i == keys/2 {
			poisoned = o.Page().Off()
		}
	}
	for i := range keys {
		o := btree.RefOff(recordOf(t, db, fmt.Appendf(nil, "key%03d", i)))
		if o < poisoned+nvmap.PageBytes && o+1100 > poisoned {
			on[i] = true
		}
	}
	image, err := os.ReadFile(path) // as after a kill
	if err != nil {
		t.Fatal(err)
	}
	copyPath := path + ".copy"
	if err := os.WriteFile(copyPath, image, 0o600); err != nil {
		t.Fatal(err)
	}

	dev, err := nvmap.OpenDevice(copyPath, nvmap.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mprotect(dev.Mapping()[poisoned:poisoned+nvmap.PageBytes], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	hurt, err := OpenDevice(dev, nil)
	if err != nil {
		t.Fatalf("opening a store with a poisoned page in a marked slab: %v", err)
	}
	defer hurt.Close()
	if hurt.Metrics().RecoveryDamage == 0 {
		t.Error("nothing was said of the damage")
	}
	for i := range keys {
		v, err := hurt.Get(fmt.Appendf(nil, "key%03d", i))
		if !on[i] && (err != nil || len(v) != len(value)) {
			t.Errorf("key %d, whose record is whole: %d bytes, %v", i, len(v), err)
		}
		if on[i] && err == nil && len(v) != len(value) {
			t.Errorf("key %d: %d invented bytes", i, len(v))
		}
	}
	if len(on) == 0 || len(on) > 8 {
		t.Errorf("%d records on the poisoned page", len(on))
	}
}

// recordOf returns the reference of a key in the index.
func recordOf(t *testing.T, db *DB, key []byte) btree.Ref {
	t.Helper()
	var p btree.Path
	if err := db.ix.Find(key, &p); err != nil || !p.Found() {
		t.Fatal(errors.Join(err, fmt.Errorf("%q: found %v", key, p.Found())))
	}
	return db.ix.Old(&p)
}
