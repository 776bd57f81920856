package kv

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// TestCut deletes ranges of all sizes from trees of all shapes and compares the remaining keys,
// before and after the records are freed.
func TestCut(t *testing.T) {
	shapes := map[string]struct {
		keys, keyLen int
		value        func(rng *rand.Rand) int
	}{
		"flat":          {300, 8, func(rng *rand.Rand) int { return rng.IntN(50) }},
		"wide":          {20_000, 8, func(*rand.Rand) int { return 10 }},
		"deep":          {1500, 850, func(rng *rand.Rand) int { return rng.IntN(100) }},
		"overflowing":   {250, 2500, func(rng *rand.Rand) int { return rng.IntN(100) }},
		"spilled":       {200, 12, func(rng *rand.Rand) int { return rng.IntN(30_000) }},
		"one":           {1, 8, func(*rand.Rand) int { return 1 }},
		"common prefix": {3000, 300, func(*rand.Rand) int { return 1 }},
	}
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const seed = 5
			rng := rand.New(rand.NewPCG(seed, uint64(len(name))))
			db, err := OpenDevice(nvmap.NewMem(256<<20), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			pad := strings.Repeat("p", c.keyLen-8)
			key := func(i int) string {
				if name == "common prefix" {
					return pad + fmt.Sprintf("%08d", i)
				}
				return fmt.Sprintf("%08d", i) + pad
			}
			m := model{}
			for round := range 12 {
				fillCut(t, db, m, rng, c.keys, key, c.value)
				if round%3 == 1 {
					if err := db.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					start, end := cutBounds(rng, c.keys, key)
					before := db.Metrics()
					if err := db.DeleteRange(start, end); err != nil {
						t.Fatalf("seed %d, round %d: %v", seed, round, err)
					}
					gone := 0
					maps.DeleteFunc(m, func(k, _ string) bool {
						out := k >= string(start) && (end == nil || k < string(end))
						if out {
							gone++
						}
						return out
					})
					after := db.Metrics()
					if after.Keys != int64(len(m)) || after.Deletes-before.Deletes != uint64(gone) {
						t.Fatalf("seed %d, round %d, [%q, %q): %d keys and %d deletes, want %d and %d", seed, round,
							clip(start), clip(end), after.Keys, after.Deletes-before.Deletes, len(m), gone)
					}
				}
				m.compare(t, db)
				mustCheck(t, db)
			}
			if err := db.DeleteRange(nil, nil); err != nil {
				t.Fatal(err)
			}
			model{}.compare(t, db)
			mustCheck(t, db)
			if got := db.Metrics(); got.IndexLeaves != 1 || got.IndexHeight != 2 {
				t.Errorf("an empty tree has %d leaves and %d levels", got.IndexLeaves, got.IndexHeight)
			}
		})
	}
}

// fillCut puts most of the missing keys, some with a time to live.
func fillCut(t *testing.T, db *DB, m model, rng *rand.Rand, n int, key func(int) string, value func(*rand.Rand) int) {
	t.Helper()
	inBatches(t, db, n, func(b *Batch, _ int) {
		k, v := key(rng.IntN(n)), strings.Repeat("v", value(rng))
		m[k] = v
		if rng.IntN(10) == 0 {
			b.PutTTL([]byte(k), []byte(v), time.Hour)
		} else {
			b.Put([]byte(k), []byte(v))
		}
	})
}

func cutBounds(rng *rand.Rand, n int, key func(int) string) (start, end []byte) {
	a, b := rng.IntN(n), rng.IntN(n)
	if rng.IntN(2) == 0 { // a small one
		b = min(a+1+rng.IntN(20), n)
	}
	a, b = min(a, b), max(a, b)+1
	if rng.IntN(6) > 0 {
		start = []byte(key(a))
	}
	if rng.IntN(6) > 0 {
		end = []byte(key(b))
	}
	return start, end
}

// TestCutBesideReaders: snapshots see the range as it was, point reads see it until it is gone, and
// keys put into the range afterwards stay.
func TestCutBesideReaders(t *testing.T) {
	t.Parallel()
	db := openTest(t, testDir(t)+"/s", &Options{EvacuateBytes: -1})
	const n = 5000
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if v, err := db.Get(key(i * 31 % n)); err == nil && !bytes.HasPrefix(v, key(i*31%n)) {
				t.Errorf("key %s has value %q", key(i*31%n), v)
			}
			_ = db.Scan(key(i*17%n), nil, 20, func(k, v []byte) bool {
				if !bytes.HasPrefix(v, k) {
					t.Errorf("key %s has value %q", k, v)
				}
				return true
			})
		}
	}()
	for round := range 20 {
		inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), fmt.Appendf(nil, "%06d of round %d", i, round)) })
		tx, err := db.Begin(false)
		if err != nil {
			t.Fatal(err)
		}
		from, to := round*100, n-round*50
		if err := db.DeleteRange(key(from), key(to)); err != nil {
			t.Fatal(err)
		}
		inBatches(t, db, n, func(b *Batch, i int) {
			if i%3 == 0 {
				b.Put(key(i), fmt.Appendf(nil, "%06d afterwards", i))
			}
		})
		if round%2 == 0 {
			if err := db.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			v, err := tx.Get(key(i))
			if want := fmt.Sprintf("%06d of round %d", i, round); err != nil || string(v) != want {
				t.Fatalf("the snapshot has %q, %v under %s, want %q", v, err, key(i), want)
			}
			v, err = db.Get(key(i))
			switch {
			case i%3 == 0:
				if want := fmt.Sprintf("%06d afterwards", i); err != nil || string(v) != want {
					t.Fatalf("%q, %v under %s, want %q", v, err, key(i), want)
				}
			case i >= from && i < to:
				wantErr(t, "a deleted key", err, ErrNotFound)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if round%5 == 0 {
			mustCheck(t, db)
		}
	}
	close(stop)
	<-done
}

// TestI9_CutPagesChange: a point read that is in a leaf when the leaf leaves with a range finds the
// leaf changed, because its records may be freed and their slots reused.
func TestI9_CutPagesChange(t *testing.T) {
	skipInRace(t)
	db := openTest(t, testDir(t)+"/s", nil)
	const n = 5000
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), nil) })
	shown := db.showing.Load()
	hits := make([]btree.Hit, n)
	for i := range hits {
		if res := db.ix.Lookup(key(i), &hits[i]); res != btree.Found {
			t.Fatalf("key %d: %v", i, res)
		}
	}
	if err := db.DeleteRange(key(10), key(n-10)); err != nil {
		t.Fatal(err)
	}
	for i := 10; i < n-10; i++ {
		if db.stands(&hits[i], shown) {
			t.Fatalf("key %d was deleted, and its leaf did not change", i)
		}
	}
}

// TestR10_FreezeDismantles: a checkpoint that is frozen directly after a cut marks nothing that the
// cut left. Otherwise a crash would leak it.
func TestR10_FreezeDismantles(t *testing.T) {
	sim := nvmap.NewSim(nvmap.NewMem(64 << 20))
	db, err := OpenDevice(sim, &Options{EvacuateBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	db.stopCheckpointer() // it would dismantle
	m := model{}
	const n = 16 * reclaimMost
	inBatches(t, db, n, func(b *Batch, i int) {
		k := fmt.Sprintf("%06d", i)
		b.Put([]byte(k), []byte(k))
		if i < 100 || i >= n-100 {
			m[k] = k
		}
	})
	if err := firstErr(db.Checkpoint(t.Context()), db.cutAlone([]byte("000100"), fmt.Appendf(nil, "%06d", n-100))); err != nil {
		t.Fatal(err)
	}
	if len(db.holders.cut) == 0 {
		t.Fatal("nothing is left to dismantle")
	}
	f, err := db.freeze()
	if err != nil {
		t.Fatal(err)
	}
	if err := firstErr(db.writeFrozen(t.Context(), f), db.r.WriteSuper(f.state.encode())); err != nil {
		t.Fatal(err)
	}
	db.checkpoints.base = f.state
	db.flipped(f, 0)
	m.compare(t, db)
	images := slices.Collect(sim.Images(1, 1))
	after, err := OpenDevice(images[0].Device(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.compare(t, after)
	mustCheck(t, after)
	if err := firstErr(after.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCommitsFreeLittle: the remains of a large range are not freed by the next commit alone. Each
// commit frees a few things, and so does the background, if there is one.
func TestCommitsFreeLittle(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40})
	key := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	fill := func(n int) {
		inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), make([]byte, 40)) })
	}
	rest := func() bool {
		defer db.standstill()()
		db.publish.Lock()
		defer db.publish.Unlock()
		return db.holders.pending()
	}
	fill(20 * reclaimMost)
	if err := db.DeleteRange(nil, nil); err != nil {
		t.Fatal(err)
	}
	for rest() { // in the background
		time.Sleep(time.Millisecond)
	}
	db.stopCheckpointer()
	fill(20 * reclaimMost)
	slot := db.r.UsedIn(alloc.KindRecord) / (20 * reclaimMost)
	if err := db.DeleteRange(nil, nil); err != nil {
		t.Fatal(err)
	}
	left := func() int64 { return db.r.UsedIn(alloc.KindRecord) / slot }
	puts := 0
	for ; rest(); puts++ {
		before := left()
		if err := db.Put(key(puts), make([]byte, 40)); err != nil {
			t.Fatal(err)
		}
		if freed := before - left(); freed > reclaimLeast+2 {
			t.Fatalf("put %d freed %d records", puts, freed)
		}
	}
	if want := 15 * reclaimMost / (reclaimLeast + 2); puts < want {
		t.Errorf("%d puts freed all, fewer than %d", puts, want)
	}
	mustCheck(t, db)
}
