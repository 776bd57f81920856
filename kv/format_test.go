package kv

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/layout"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

const formatDoc = "../docs/format.md"

// TestFormat makes a small store with every structure, crashes it, opens it again, and decodes the
// medium by the tables of docs/format.md alone. The dump must equal testdata/format, no byte may be
// left over, and the decoded keys and values must be those of the store.
func TestFormat(t *testing.T) {
	before := formatStore(t)
	want := model{}
	fillFormat(t, before, want)
	after, err := OpenDevice(crashed(t, before), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	want.compare(t, after)
	if v := after.Metrics().RecordsVoid; v != 1 {
		t.Errorf("recovery met %d void records, 1 was prepared", v)
	}

	medium := bytes.Clone(after.m.View(0, int(after.m.Size())))
	w := &formatWalk{t: t, doc: layout.Read(t, formatDoc), medium: medium, reached: map[int]bool{}, got: model{}, refs: map[int]formatRef{}, newest: map[string]uint64{}, ordinal: map[string]uint64{}}
	w.d = layout.NewDump(t, w.doc, medium)
	w.all()
	w.deleteRanges()
	w.d.Unexplained()
	w.d.Golden(filepath.Join("testdata", "format"))
	if !maps.Equal(w.got, want) {
		t.Errorf("the document finds %d keys, the store has %d", len(w.got), len(want))
	}
}

// formatStore opens a new store with a fixed id.
func formatStore(t *testing.T) *DB {
	t.Helper()
	dev := nvmap.NewMem(1 << 24)
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := state{interval: 1}
	if err := alloc.Format(m, alloc.Options{SlabBytes: 16 << 10, GroupSlabs: 32, Payload: first.encode()}); err != nil {
		t.Fatal(err)
	}
	head := bytes.Clone(m.View(0, 5*nvmap.PageBytes))
	layout.SetStoreID(head, [16]byte([]byte("a fixed store id")))
	if err := dev.Write(0, head); err != nil {
		t.Fatal(err)
	}
	db, err := OpenDevice(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// lost is a key whose record the crash damages: its transaction is void.
const lost = "void, and lost"

// fillFormat writes one of every structure, with a checkpoint in the middle.
func fillFormat(t *testing.T, db *DB, want model) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(k, v string) {
		t.Helper()
		must(db.Put([]byte(k), []byte(v)))
		want[k] = v
	}
	del := func(k string) {
		t.Helper()
		must(db.Delete([]byte(k)))
		delete(want, k)
	}
	batch := func(kv ...string) {
		t.Helper()
		b := db.NewBatch()
		for i := 0; i < len(kv); i += 2 {
			b.Put([]byte(kv[i]), []byte(kv[i+1]))
			want[kv[i]] = kv[i+1]
		}
		must(db.Write(b))
	}
	put("", "the empty key")
	put("apple", "green")
	put("apple", "red") // the slot of its first record is free
	batch("cherry", "1", "date", "2", "elder", "")
	del("date")
	must(db.single(record.KindPut, []byte("expiring"), []byte("in 2100"), 4102444800e9))
	want["expiring"] = "in 2100"
	put("large value", strings.Repeat("v", 5000))
	db.opt.listLevels = 1
	put("value whose list has a level more", strings.Repeat("pieces ", 3000))
	db.opt.listLevels = 0
	put(strings.Repeat("long key ", 111), "a chain of one page")
	put(strings.Repeat("longer key ", 400), strings.Repeat("w", 3000)) // in runs; a chain of two
	prefix := "shared " + strings.Repeat("prefix ", 36)
	for i := range 48 { // several leaves, whose keys share a prefix
		put(fmt.Sprintf("%s%02d %s", prefix, i, strings.Repeat("x", 150)), fmt.Sprint(i))
	}
	must(db.Checkpoint(context.Background()))
	put("fig", "newer than the checkpoint")
	batch("apple", "yellow", "grape", strings.Repeat("g", 8193)) // three pages
	del("cherry")
	put("quince", "deleted with its range")
	must(db.DeleteRange([]byte("p"), []byte("r")))
	delete(want, "quince")
	put("plum", "newer than the range")
	db.opt.Durability = Relaxed
	put("huckleberry", "1")
	batch("huckleberry", "2", "jackfruit", "3")
	must(db.Sync())
	db.opt.Durability = Sync
	batch("void, not lost", "4", lost, "5")
	delete(want, "void, not lost")
	delete(want, lost)
}

// crashed returns a device with the contents of db's, except one record.
func crashed(t *testing.T, db *DB) nvmap.Device {
	t.Helper()
	medium := bytes.Clone(db.m.View(0, int(db.m.Size())))
	at := bytes.Index(medium, []byte(lost))
	if at < 0 {
		t.Fatalf("%q is not on the medium", lost)
	}
	medium[at] ^= 1
	dev := nvmap.NewMem(1 << 24)
	if err := dev.Grow(int64(len(medium))); err != nil {
		t.Fatal(err)
	}
	if err := dev.Write(0, medium); err != nil {
		t.Fatal(err)
	}
	return dev
}

// formatRef is an entry of the index.
type formatRef struct {
	key  string
	bits uint64 // low bits of the reference
}

// TestFormatConstants: the sizes in the document and in the code agree.
func TestFormatConstants(t *testing.T) {
	doc := layout.Read(t, formatDoc)
	for table, size := range map[string]int{"Superblock payload": stateBytes, "Ended run": endedBytes} {
		if got := doc.Size(t, table); got != size {
			t.Errorf("%s: %d bytes in the document, %d in the code", table, got, size)
		}
	}
}
