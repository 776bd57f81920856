package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Traces of readers: what a point read, a snapshot or an iterator may meet while others write,
// evict or fill the store. If possible a trace runs step by step, otherwise beside the interfering
// code.

// Trace 24: a reader has descended to a leaf. Because of a snapshot the next writer copies that
// leaf, and the copy names another record. The snapshot ends, and the slot that the reader's leaf
// names is reused. No byte of the reader's leaf has changed, but it must not validate.
func TestTrace24_ReplacedLeavesAreChanged(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(4<<20), &Options{SlabBytes: 4096, EvacuateBytes: -1})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	must(t, db.Put([]byte("a"), []byte("1")))
	snapshot, err := db.Begin(false)
	must(t, err)

	var h btree.Hit
	shown := db.showing.Load()
	if db.ix.Lookup([]byte("a"), &h) != btree.Found || !db.stands(&h, shown) {
		t.Fatal("the key is there")
	}
	leaf := bytes.Clone(db.m.Page(h.LeafPage())[:])
	record := bytes.Clone(db.bytesAt(btree.RefOff(h.Rec), record.HeaderBytes+2))

	must(t, db.Put([]byte("a"), []byte("2"))) // into a copy of the leaf
	if db.stands(&h, shown) {
		t.Error("the leaf has been replaced, and the reader that is in it does not notice")
	}
	if !bytes.Equal(leaf, db.m.Page(h.LeafPage())[:]) {
		t.Error("the leaf itself has changed: the trace tells something else")
	}
	must(t, snapshot.Rollback())
	for i := 0; bytes.Equal(record, db.bytesAt(btree.RefOff(h.Rec), len(record))); i++ { // until the slot is reused
		if i == 10_000 {
			t.Fatal("its slot is never used again: the trace does not get anywhere")
		}
		must(t, db.Put([]byte("b"), []byte("3")))
	}
	if db.stands(&h, shown) {
		t.Error("the slot is used again, and the reader does not notice")
	}
	if v, err := db.Get([]byte("a")); err != nil || string(v) != "2" {
		t.Errorf("Get: %q, %v", v, err)
	}
}

// Trace 27: two transactions read a counter and write it plus one. If the second could read while
// the first is being made durable, an increment would be lost. So would one that a put overtakes.
func TestTrace27_NoLostUpdates(t *testing.T) {
	db := openMem(t)
	const callers, rounds = 4, 100
	add := func(tx *Tx) error {
		v, err := tx.Get([]byte("n"))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return tx.Put([]byte("n"), append(bytes.Clone(v), 'x'))
	}
	var wg sync.WaitGroup
	for id := range callers {
		wg.Go(func() {
			for range rounds {
				must(t, firstErr(db.Update(add), db.Put(fmt.Append(nil, "beside", id), nil)))
			}
		})
	}
	wg.Wait()
	if v, err := db.Get([]byte("n")); err != nil || len(v) != callers*rounds {
		t.Errorf("%d updates left %d, %v", callers*rounds, len(v), err)
	}
}

// Trace 30: a read of a large value restarts whenever a neighbour in its leaf is updated. It would
// never end beside a writer that does nothing else.
func TestTrace30_NoStarvation(t *testing.T) {
	db := openMem(t)
	large := bytes.Repeat([]byte("v"), 12<<10) // in a slot: the copy takes longer than an update
	must(t, db.Put([]byte("k5"), large))
	var stop atomic.Bool
	var updates atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			must(t, db.Put(fmt.Append(nil, "k", i%5), []byte{byte(i)}))
			updates.Add(1)
		}
	})
	for reads := 0; reads < 200 || updates.Load() < 2000; reads++ {
		if v, err := db.Get([]byte("k5")); err != nil || !bytes.Equal(v, large) {
			t.Errorf("Get: %d bytes, %v", len(v), err)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// Trace 30, second half: a writer that loses its processor in the middle of a change leaves readers
// spinning. On a single processor it continues only if they yield.
func TestTrace30_ReadersYield(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(64<<20), &Options{HashBytes: NoHash}) // no bucket is held here
	must(t, err)
	defer db.Close()
	must(t, db.Put([]byte("a"), []byte("1")))
	var h btree.Hit
	if db.ix.Lookup([]byte("a"), &h) != btree.Found {
		t.Fatal("the key is there")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	db.publish.Lock() // as a goroutine that changes a leaf holds it
	db.m.BeginChange(h.LeafPage())
	got := make(chan error)
	go func() {
		v, err := db.Get([]byte("a"))
		if err == nil && string(v) != "1" {
			err = fmt.Errorf("got %q", v)
		}
		got <- err
	}()
	for range 100 {
		runtime.Gosched()
	}
	select {
	case err := <-got:
		t.Errorf("a read of a leaf that is being changed returned (%v)", err)
		return
	default:
	}
	db.m.EndChange(h.LeafPage())
	db.publish.Unlock()
	must(t, <-got)
}

// Trace 31: an open snapshot would keep frames from being evicted if eviction waited for readers to
// end. It does not: the bound on DRAM holds, and later reads of the snapshot return the same as
// before.
func TestTrace31_SnapshotsDoNotPinFrames(t *testing.T) {
	if testing.Short() {
		t.Skip("an index of some MiB")
	}
	for name, dev := range map[string]nvmap.Device{
		"mapped":     nvmap.NewMem(256 << 20),
		"not mapped": unmappedDevice{Device: nvmap.NewMem(256 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			const keys = 150_000
			db := cacheDB(t, dev, Options{CheckpointBytes: 1 << 20})
			fillKeys(t, db, keys, "old")
			tx, err := db.Begin(false)
			must(t, err)
			defer func() { must(t, tx.Rollback()) }()
			rng := rand.New(rand.NewPCG(31, 1))
			for i := range 30_000 {
				k := fmt.Appendf(nil, "key%07d", rng.IntN(keys))
				must(t, db.Put(k, []byte("new")))
				if i%100 != 0 {
					continue
				}
				if v, err := tx.Get(k); err != nil || string(v) != "old" {
					t.Fatalf("the snapshot has %s = %q, %v", k, v, err)
				}
				if s := db.m.Stats(); s.CacheUsed > s.CacheBytes {
					t.Fatalf("%d bytes of frames under a bound of %d", s.CacheUsed, s.CacheBytes)
				}
			}
			if s := db.m.Stats(); s.Evictions == 0 {
				t.Error("nothing was evicted: the trace does not get anywhere")
			}
			n := 0
			for k, v := range tx.All(nil, nil) {
				if n++; string(v) != "old" {
					t.Fatalf("the snapshot iterates over %s = %q", k, v)
				}
			}
			if must(t, tx.Err()); n != keys {
				t.Errorf("the snapshot has %d keys", n)
			}
		})
	}
}

// Trace 33: no run of pages crosses a group, and an old store of fixed size has no long run even if
// it is half empty. A value is a list of runs. It fits if its bytes fit, even if the free slots are
// too small for the list, which then lies in runs.
func TestTrace33_LargeValuesInAnAgedStore(t *testing.T) {
	t.Parallel()
	const group = 64 * 65536
	db, err := OpenDevice(nvmap.NewMem(64<<20), &Options{EvacuateBytes: -1})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	hole := bytes.Repeat([]byte("h"), 5*nvmap.PageBytes)
	must(t, db.Put([]byte("small"), hole)) // a slab with room for a short list
	n := 0
	for ; err == nil; n++ { // until it is full
		err = db.Put(fmt.Appendf(nil, "hole%05d", n), hole)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 2 { // holes of five pages each
		must(t, db.Delete(fmt.Appendf(nil, "hole%05d", i)))
	}
	must(t, db.Checkpoint(context.Background()))
	large := make([]byte, 4*group)
	for i := range large {
		large[i] = byte(i * i >> 8)
	}
	must(t, db.Put([]byte("large"), large))
	must(t, db.View(func(tx *Tx) error {
		rec, err := db.recordAt([]byte("large"), tx.root, tx.at)
		must(t, err)
		if l, err := db.runs(rec); err != nil || len(l.Extents) < 100 {
			t.Errorf("%d runs: the store is not as fragmented as it should be", len(l.Extents))
		}
		v, err := tx.Get([]byte("large"))
		must(t, err)
		// It stays until the transaction ends, whatever happens to the key.
		must(t, firstErr(db.Delete([]byte("large")), db.Checkpoint(context.Background())))
		for i := 0; i < n; i += 2 { // candidates for its pages
			if err := db.Put(fmt.Appendf(nil, "hole%05d", i), hole); err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(v, large) {
			t.Error("the value is not what was put")
		}
		return nil
	}))
	mustCheck(t, db)
}

// Trace 34: on a device that is not mapped, keys and values of an iterator are copies, valid until
// it moves. Otherwise walking through a store would hold all of it in memory. Slices of Tx.Get are
// valid until the Tx ends, outside of CacheBytes.
func TestTrace34_IteratorsPinNothing(t *testing.T) {
	skipInRace(t) // race builds count memory differently
	db := cacheDB(t, unmappedDevice{Device: nvmap.NewMem(256 << 20)}, Options{})
	const keys, size = 20_000, 4000
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2) }
	key := func(i int) []byte { return fmt.Appendf(nil, "key%07d", i) }
	b := db.NewBatch()
	for i := range keys {
		b.Put(key(i), value(i))
		if b.Len() == 500 {
			must(t, db.Write(b))
			b.Reset()
		}
	}
	must(t, db.Write(b))
	must(t, db.View(func(tx *Tx) error {
		kept, err := tx.Get(key(7))
		must(t, err)
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before, most := heap(), int64(0)
		i := 0
		for k, v := range tx.All(nil, nil) {
			if !bytes.Equal(k, key(i)) || !bytes.Equal(v, value(i)) {
				t.Fatalf("entry %d is %s", i, k)
			}
			if i++; i%4000 == 0 {
				most = max(most, heap()-before)
			}
		}
		if must(t, tx.Err()); i != keys {
			t.Errorf("%d keys", i)
		}
		const total = keys * size
		if s := db.m.Stats(); most > total/8 || s.CacheUsed > s.CacheBytes {
			t.Errorf("walking through %d bytes held %d on the heap and %d of %d in frames", total, most, s.CacheUsed, s.CacheBytes)
		}
		if !bytes.Equal(kept, value(7)) {
			t.Error("a slice from Tx.Get changed before the Tx ended")
		}
		return nil
	}))
}

// Trace 28, second half: the file is cut or punched under readers. Reads of missing bytes return an
// error, and all others their values.
func TestTrace28_DiscardBesideReaders(t *testing.T) {
	db := openTest(t, testDir(t)+"/s", &Options{SlabBytes: 4096, CheckpointBytes: 64 << 10, EvacuateBytes: -1})
	const keys = 2000
	key := func(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }
	for i := range keys {
		must(t, db.Put(key(i), bytes.Repeat(key(i), 20)))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for id := range uint64(2) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(id, 28))
			for !stop.Load() {
				i := rng.IntN(keys)
				v, err := db.Get(key(i))
				if errors.Is(err, ErrNotFound) && i%10 != 0 {
					continue
				}
				if err != nil || !bytes.Equal(v, bytes.Repeat(key(i), 20)) {
					t.Errorf("%s: %d bytes, %v", key(i), len(v), err)
					return
				}
			}
		})
	}
	for round := 0; round < effort.Pick(1, 2, 8, 8) || db.m.Stats().Discards == 0; round++ {
		for i := range keys {
			if i%10 != 0 {
				must(t, db.Delete(key(i)))
			}
		}
		must(t, db.Compact(context.Background()))
		for i := range keys {
			if i%10 != 0 {
				must(t, db.Put(key(i), bytes.Repeat(key(i), 20)))
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	mustCheck(t, db)
}
