package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// fragmentedStore returns a store that cannot grow and in which every second slab of values is
// free.
func fragmentedStore(t *testing.T, bytesMost int64, slab int) *DB {
	t.Helper()
	db, err := OpenDevice(nvmap.NewMem(bytesMost), &Options{SlabBytes: slab, EvacuateBytes: -1})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	value := make([]byte, slab)
	n := 0
	for ; err == nil; n++ {
		err = db.Put(fmt.Appendf(nil, "piece%06d", n), value)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 2 {
		must(t, db.Delete(fmt.Appendf(nil, "piece%06d", i)))
	}
	must(t, db.Checkpoint(context.Background()))
	return db
}

// died returns the device of a store whose process died: everything fenced.
func died(t *testing.T, db *DB) nvmap.Device {
	t.Helper()
	db.checkpoints.mu.Lock() // nothing writes in the background meanwhile
	defer db.checkpoints.mu.Unlock()
	db.turn.hold()
	defer db.turn.give()
	dev := nvmap.NewMem(db.m.Device().Info().MaxBytes)
	must(t, dev.Grow(db.m.Size()))
	must(t, dev.Write(0, db.m.View(0, int(db.m.Size()))))
	return dev
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b
}

// levelsOf returns the level of a key's run list.
func levelsOf(t *testing.T, db *DB, key string) int {
	t.Helper()
	var rec record.Record
	must(t, db.readRecord(btree.RefOff(slotOf(t, db, key)), &rec))
	return int(rec.List[4])
}

// TestLargeValueInPieces: a value is stored as long as there are pages for it, however many pieces
// they are, and is there after a crash.
func TestLargeValueInPieces(t *testing.T) {
	db := fragmentedStore(t, 8<<20, 4096)
	large := noise(int(db.r.Unreserved()-60) * 4096)
	must(t, db.Put([]byte("large"), large))
	if n := levelsOf(t, db, "large"); n == 0 {
		t.Error("the list has one level: the store is not as fragmented as it should be")
	}
	compare := func(db *DB, want []byte) {
		t.Helper()
		got, err := db.Get([]byte("large"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; not the %d that were put", len(got), err, len(want))
		}
		mustCheck(t, db)
	}
	compare(db, large)
	again, err := OpenDevice(died(t, db), nil)
	must(t, err)
	compare(again, large)
	must(t, again.Close())

	must(t, db.Checkpoint(context.Background()))
	less := noise(9000)
	must(t, db.Put([]byte("large"), less)) // the checkpoint's record has levels
	again, err = OpenDevice(died(t, db), nil)
	must(t, err)
	compare(again, less)
	must(t, again.Put([]byte("large"), large))
	compare(again, large)
	must(t, again.Close())
	must(t, db.Delete([]byte("large")))
	mustCheck(t, db)
}

// TestSmallSlabs: the smallest slabs do not lower the limit of values.
func TestSmallSlabs(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(128<<20), &Options{SlabBytes: 4096})
	must(t, err)
	defer db.Close()
	want := noise(24 << 20)
	must(t, db.Put([]byte("k"), want))
	if got, err := db.Get([]byte("k")); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// TestI5_ListsBelowOthersOutliveThem: pages of lists that a checkpoint names stay allocated as long
// as the slot that names them. Their data runs are free at once.
func TestI5_ListsBelowOthersOutliveThem(t *testing.T) {
	db := openMem(t)
	db.opt.listLevels = 2
	must(t, db.Put([]byte("k"), make([]byte, 50_000)))
	must(t, db.Checkpoint(context.Background()))
	var rec record.Record
	must(t, db.readRecord(btree.RefOff(slotOf(t, db, "k")), &rec))
	l, err := db.runs(&rec)
	must(t, err)
	if n := len(l.Listing()); n != 2 {
		t.Fatalf("%d extents hold lists, not 2", n)
	}
	must(t, db.Put([]byte("k"), []byte("1")))
	used := func(when string, lists bool) {
		t.Helper()
		for o := range l.ListPages() {
			if db.r.IsUsed(o) != lists {
				t.Errorf("%s: page of a list used is %v", when, !lists)
			}
		}
		for o := range record.PagesIn(l.Data()) {
			if db.r.IsUsed(o) {
				t.Errorf("%s: a page of the value is in use", when)
			}
		}
		mustCheck(t, db)
	}
	used("while the checkpoint counts", true)
	must(t, db.Checkpoint(context.Background()))
	used("after the next", false)
}

// TestHostileRunLists: whatever a list contains, the reader ends, takes no more memory than the
// value is long, and refuses the list with its place.
func TestHostileRunLists(t *testing.T) {
	db := openMem(t)
	db.opt.listLevels = 1
	must(t, db.Put([]byte("k"), make([]byte, 100_000)))
	var good record.Record
	must(t, db.readRecord(btree.RefOff(slotOf(t, db, "k")), &good))
	l, err := db.runs(&good)
	must(t, err)
	size := db.m.Size()
	list := func(level int, extents ...alloc.Extent) []byte { return record.AppendRunList(nil, 0, level, extents) }
	data := l.Data()
	for name, b := range map[string][]byte{
		"a list of level 1 as one of level 0":  list(0, l.Extents[0]),
		"of level 0 as one of level 1":         list(1, data...),
		"levels that are not there":            list(3, l.Extents[0]),
		"a wrong checksum":                     list(1, l.Extents[0]),
		"no extents":                           list(1),
		"no extents at level 0":                list(0),
		"an extent outside":                    list(1, alloc.Extent{Off: nvmap.Off(size), Bytes: 4096}),
		"an extent across the end":             list(0, alloc.Extent{Off: nvmap.Off(size - 4096), Bytes: 25 * 4096}),
		"far away":                             list(1, alloc.Extent{Off: 1<<48 - 4096, Bytes: 4096}),
		"more pages than the value has":        list(0, alloc.Extent{Off: data[0].Off, Bytes: 26 * 4096}),
		"all pages that there can be":          list(1, alloc.Extent{Off: data[0].Off, Bytes: (1<<32 - 1) * 4096}),
		"fewer pages than the value has":       list(0, alloc.Extent{Off: data[0].Off, Bytes: 4096}),
		"no page":                              list(1, alloc.Extent{Off: data[0].Off}),
		"an extent in the middle of a page":    list(1, alloc.Extent{Off: l.Extents[0].Off + 512, Bytes: 4096}),
		"the value's first page, a list of it": list(1, alloc.Extent{Off: data[0].Off, Bytes: 4096}),
	} {
		rec := good
		rec.List = b
		if _, err := db.runs(&rec); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if db.runsWhole(&rec) || db.keyInRuns(&rec) != nil || db.extentsInside(&rec) {
			t.Errorf("%s: believed", name)
		}
	}
	rec := good
	for _, n := range []int{1, 4096, MaxValueBytes} {
		rec.ValLen = n
		if _, _, err := db.readRuns(&rec, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a value of %d bytes in the runs of 100,000: %v", n, err)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 9), {0, 0, 0, 0, 4, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 1, 0, 0, 0, 0}} {
		if _, ok := record.RunListBytes(b); ok {
			t.Errorf("% x is taken for a list", b)
		}
	}
	if n, ok := record.RunListBytes([]byte{0, 0, 0, 0, 3, 0, 255, 255, 255, 255}); !ok || n != 10+10*(1<<32-1) {
		t.Errorf("the longest list has %d bytes, %v", n, ok)
	}
}

// TestRottenList: a rotten list costs its own key only, and is reported.
func TestRottenList(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		db, err := OpenDevice(nvmap.NewMem(16<<20), nil)
		must(t, err)
		defer db.Close()
		db.opt.listLevels = 1
		must(t, db.Put([]byte("k"), make([]byte, 50_000)))
		must(t, db.Put([]byte("other"), make([]byte, 50_000)))
		var rec record.Record
		must(t, db.readRecord(btree.RefOff(slotOf(t, db, "k")), &rec))
		l, err := db.runs(&rec)
		must(t, err)
		o := l.Extents[0].Off + record.ListHeaderBytes
		must(t, db.m.Write(o, []byte{db.bytesAt(o, 1)[0] ^ 0x10}))
		must(t, db.m.Fence())
		if reopen {
			if db, err = OpenDevice(died(t, db), nil); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
		}
		if _, err := db.Get([]byte("k")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("reopened %v: %v", reopen, err)
		}
		if v, err := db.Get([]byte("other")); err != nil || len(v) != 50_000 {
			t.Errorf("reopened %v: another key has %d bytes, %v", reopen, len(v), err)
		}
		named := false
		must(t, db.Check(context.Background(), func(i CheckIssue) { named = named || string(i.Key) == "k" }))
		if !named {
			t.Errorf("reopened %v: Check does not name the key", reopen)
		}
		must(t, db.Put([]byte("k"), []byte("1")))
		if v, err := db.Get([]byte("k")); err != nil || string(v) != "1" {
			t.Errorf("reopened %v: put again: %q, %v", reopen, v, err)
		}
	}
}

// TestLongBounds: bounds of ranges that are longer than keys can be have their usual meaning, and a
// recovery finds the ranges with their whole transaction.
func TestLongBounds(t *testing.T) {
	t.Parallel()
	long := func(first string, n int) []byte { return append([]byte(first), bytes.Repeat([]byte{0xff}, n)...) }
	keys := []string{"", "a", "b", string(long("b", MaxKeyBytes-1)), "c", string(long("", MaxKeyBytes))}
	bounds := [][]byte{nil, []byte("a"), long("b", 70_000), long("a", MaxKeyBytes-1), long("a", MaxKeyBytes), append(long("b", MaxKeyBytes-1), 0), long("", 70_000), append(make([]byte, 70_000), 1)}
	ways := map[string]func(db *DB, start, end []byte) error{
		"DB": func(db *DB, start, end []byte) error { return db.DeleteRange(start, end) },
		"Tx": func(db *DB, start, end []byte) error {
			return db.Update(func(tx *Tx) error { return firstErr(tx.DeleteRange(start, end), tx.Put([]byte("beside"), nil)) })
		},
		"Batch": func(db *DB, start, end []byte) error {
			b := db.NewBatch()
			b.DeleteRange(start, end)
			b.Put([]byte("beside"), nil)
			return db.Write(b)
		},
	}
	for name, way := range ways {
		db := openMem(t)
		for i, start := range bounds {
			for j, end := range bounds {
				want := model{}
				b := db.NewBatch()
				for _, k := range keys {
					b.Put([]byte(k), []byte("v"))
					if k < string(start) || end != nil && k >= string(end) {
						want[k] = "v"
					}
				}
				must(t, firstErr(db.Write(b), db.Delete([]byte("beside")), way(db, start, end)))
				if name != "DB" {
					want["beside"] = ""
				}
				want.compare(t, db)
				if i == j+1 { // and after a crash
					again, err := OpenDevice(died(t, db), nil)
					must(t, err)
					want.compare(t, again)
					must(t, again.Close())
				}
				if t.Failed() {
					t.Fatalf("%s, bounds %d and %d", name, i, j)
				}
			}
		}
	}
}

// TestRecordsAreBounded: keys and values that a record cannot hold are refused by every writer.
func TestRecordsAreBounded(t *testing.T) {
	db := openMem(t)
	for _, c := range []struct {
		kind       byte
		key, value int
		want       error
	}{
		{record.KindPut, MaxKeyBytes + 1, 0, ErrKeyTooLarge}, {record.KindDelete, MaxKeyBytes + 1, 0, ErrKeyTooLarge},
		{record.KindRange, MaxKeyBytes + 1, 0, ErrKeyTooLarge}, {record.KindRange, 0, record.MaxRangeEnd + 1, ErrKeyTooLarge},
		{record.KindRange, MaxKeyBytes, record.MaxRangeEnd, nil},
	} {
		image := appendImage(nil, make([]byte, c.key), make([]byte, c.value))
		e := entry{kind: c.kind, image: image, key: image[record.MaxHeaderBytes : record.MaxHeaderBytes+c.key]}
		if err := db.prepare(&e); !errors.Is(err, c.want) {
			t.Errorf("kind %d, %d and %d bytes: %v, not %v", c.kind, c.key, c.value, err, c.want)
		}
	}
}
