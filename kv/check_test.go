package kv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// TestCheckNamesEveryPlace: Check continues past index pages and records that cannot be read,
// reports each once, and says what it could not check.
func TestCheckNamesEveryPlace(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	b := db.NewBatch()
	for i := range 4000 {
		b.Put(fmt.Appendf(nil, "key/%06d", i), fmt.Appendf(nil, "value %d", i))
	}
	if err := db.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	var leaves, records []nvmap.Off
	err := db.ix.Walk(db.ix.Root(), &btree.Visitor{
		Page: func(id nvmap.PageID, pg *btree.Page) (bool, error) {
			if btree.Level(pg) == 0 {
				leaves = append(leaves, id.Off())
			}
			return true, nil
		},
		Leaf: func(pg *btree.Page, b *btree.Vals) error {
			records = append(records, btree.RefOff(btree.ValAt(b, 0)))
			return nil
		},
	})
	if err != nil || len(leaves) < 8 {
		t.Fatalf("%d leaves, %v", len(leaves), err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	bad := map[nvmap.Off]string{leaves[1]: "index page", leaves[2]: "index page", leaves[6]: "index page", records[4]: "record"}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range bad {
		image[at+20] ^= 1
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	skipped := 0
	err = again.Check(context.Background(), func(i CheckIssue) {
		switch what, expected := bad[nvmap.Off(i.Off)]; {
		case expected && what == i.Structure:
			delete(bad, nvmap.Off(i.Off))
		case strings.Contains(i.Msg, "not looked at"):
			skipped++
		default:
			t.Errorf("also: %v", i)
		}
	})
	if err != nil || len(bad) > 0 || skipped != 1 {
		t.Errorf("not named: %v; said %d times what was not looked at; %v", bad, skipped, err)
	}
}

// Check reads a root whose frame was evicted. No parent states the birth of a root.
func TestCheckWithoutFrames(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	for i := range 100 {
		if err := db.Put(fmt.Appendf(nil, "%03d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n, err := db.m.Evict(1<<20, nvmap.Eviction{Quiesce: db.quiesce}); err != nil || n == 0 {
		t.Fatalf("%d frames taken, %v", n, err)
	}
	mustCheck(t, db)
}
