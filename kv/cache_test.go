package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// cacheDB opens a store on dev with the smallest cache.
func cacheDB(t testing.TB, dev nvmap.Device, o Options) *DB {
	t.Helper()
	if o.CacheBytes == 0 {
		o.CacheBytes = MinCacheBytes
	}
	db, err := OpenDevice(dev, &o)
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

func fillKeys(t testing.TB, db *DB, n int, value string) {
	t.Helper()
	b := db.NewBatch()
	for i := range n {
		b.Put(fmt.Appendf(nil, "key%07d", i), []byte(value))
		if b.Len() == 500 || i == n-1 {
			if err := db.Write(b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
}

// evictAll evicts every clean frame and returns how many there were.
func evictAll(t testing.TB, db *DB) int {
	t.Helper()
	n, err := db.m.Evict(db.m.CacheFrames(), nvmap.Eviction{Quiesce: db.quiesce})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestI13_FramesOutliveTheirReaders evicts a page while a section uses it.
func TestI13_FramesOutliveTheirReaders(t *testing.T) {
	for _, broken := range withWithout(ruleI13) {
		db := cacheDB(t, nvmap.NewMem(64<<20), Options{broken: broken})
		fillKeys(t, db, 5000, "value")
		if err := db.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		s := db.pages.Begin()
		id := db.ix.Published()
		pg := db.m.Page(id)
		before := *pg
		if db.m.Where(id) != nvmap.FrameClean {
			t.Fatalf("after a checkpoint the root is on %v", db.m.Where(id))
		}
		evicted := make(chan int)
		go func() { evicted <- evictAll(t, db) }()
		for db.m.Where(id) != nvmap.OnDevice {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		kept := *pg == before
		s.Leave()
		if n := <-evicted; n == 0 {
			t.Error("nothing was evicted")
		}
		if kept != (broken == 0) {
			t.Errorf("without rules %x, a page that was being read kept its bytes: %v", broken, kept)
		}
		if _, err := db.Get([]byte("key0000001")); err != nil {
			t.Error(err)
		}
	}
}

// TestI14_EarlyWritesAreSealed reads pages that were written early.
func TestI14_EarlyWritesAreSealed(t *testing.T) {
	for _, broken := range withWithout(ruleI14) {
		db := cacheDB(t, keptDevice{nvmap.NewMem(64 << 20)}, Options{early: true, broken: broken})
		var err error
		for i := range 200 {
			err = errors.Join(err, db.Put(fmt.Appendf(nil, "key%d", i), nil))
		}
		if _, e := db.Get([]byte("key7")); e != nil {
			err = errors.Join(err, e)
		}
		if (err == nil) != (broken == 0) {
			t.Errorf("without rules %x: %v", broken, err)
		}
		if broken != 0 {
			db.opt.broken = 0
			abandon(db)
		} else if db.early == 0 {
			t.Error("nothing was written early")
		}
	}
}

// TestI15_OldBlocksStayDirty: snapshots hold value blocks that no checkpoint has written, in pages
// with a block that a checkpoint has written.
func TestI15_OldBlocksStayDirty(t *testing.T) {
	for _, broken := range withWithout(ruleI15) {
		const rounds, keys = 12, 100
		db := cacheDB(t, nvmap.NewMem(64<<20), Options{broken: broken})
		var held [rounds]*Tx
		for round := range rounds {
			fillKeys(t, db, keys, fmt.Sprint(round))
			tx, err := db.Begin(false)
			if err != nil {
				t.Fatal(err)
			}
			held[round] = tx
		}
		if err := db.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		if evictAll(t, db) == 0 {
			t.Error("nothing was clean after a checkpoint")
		}
		wrong := 0
		for round, tx := range held {
			for i := range keys {
				if v, err := tx.Get(fmt.Appendf(nil, "key%07d", i)); err != nil || string(v) != fmt.Sprint(round) {
					wrong++
				}
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
		if (wrong == 0) != (broken == 0) {
			t.Errorf("without rules %x snapshots read %d keys wrong", broken, wrong)
		}
		if broken == 0 {
			mustCheck(t, db)
		}
		db.opt.broken = 0
	}
}

// TestCrashEvicting is TestCrashAtEveryFence with every frame evicted before every commit, dirty
// ones by early writes.
func TestCrashEvicting(t *testing.T) {
	skipInRace(t)
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(300 + seed)
			c.unmapped = seed%2 == 1
			c.opt.early = true
			c.opt.privateFrom = 4
			c.ops[0] = effort.Pick(10, 10, 40, 40)
			if err := runCrashes(c); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d images", c.opened)
		})
	}
}

// TestRapidEvicting is TestRapid with every frame evicted before every commit.
func TestRapidEvicting(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		testRapidWith(t, nvmap.NewMem(8<<20), Options{early: true})
	})
}

// TestTrace25_ReadersBesideEviction reads in every way while frames are evicted as fast as possible
// and a writer changes the records.
func TestTrace25_ReadersBesideEviction(t *testing.T) {
	for name, dev := range map[string]nvmap.Device{
		"mapped":     nvmap.NewMem(256 << 20),
		"not mapped": unmappedDevice{Device: nvmap.NewMem(256 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys = 20_000
			db := cacheDB(t, dev, Options{})
			fillKeys(t, db, keys, "0")
			var stop atomic.Bool
			var all sync.WaitGroup
			all.Go(func() {
				for !stop.Load() {
					evictAll(t, db)
				}
			})
			all.Go(func() {
				for !stop.Load() {
					if err := db.Checkpoint(context.Background()); err != nil {
						t.Error(err)
					}
				}
			})
			all.Go(func() { readEveryWay(t, db, keys, &stop) })
			end := func() {
				stop.Store(true)
				all.Wait()
			}
			defer end()
			rng := rand.New(rand.NewPCG(1, 1))
			last := make([]int, keys)
			puts, evictions := 6000, uint64(500)
			if raceBuild {
				puts, evictions = 600, 60 // readers and writers exclude each other in race builds
			}
			patience := time.Now().Add(effort.Hang)
			for i := 1; i <= puts || db.m.Stats().Evictions < evictions; i++ {
				if time.Now().After(patience) {
					t.Fatalf("%d puts and %d evictions, and it goes no further", i, db.m.Stats().Evictions)
				}
				k := rng.IntN(keys)
				if err := db.Put(fmt.Appendf(nil, "key%07d", k), fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
				last[k] = i
			}
			end()
			for k, want := range last {
				if v, err := db.Get(fmt.Appendf(nil, "key%07d", k)); err != nil || string(v) != fmt.Sprint(want) {
					t.Fatalf("key %d: %q, %v; want %d", k, v, err, want)
				}
			}
			mustCheck(t, db)
			if s := db.m.Stats(); s.CacheUsed > s.CacheBytes || s.Evictions == 0 {
				t.Errorf("%d bytes of frames under a bound of %d, %d evictions", s.CacheUsed, s.CacheBytes, s.Evictions)
			}
		})
	}
}

// readEveryWay reads by Get, by cursors and by scans, until stop is set.
func readEveryWay(t *testing.T, db *DB, keys int, stop *atomic.Bool) {
	rng := rand.New(rand.NewPCG(2, 2))
	for !stop.Load() {
		for range 100 {
			if _, err := db.Get(fmt.Appendf(nil, "key%07d", rng.IntN(keys))); err != nil {
				t.Error(err)
				return
			}
		}
		err := db.View(func(tx *Tx) error {
			c := tx.Cursor()
			defer c.Close()
			at := rng.IntN(keys - 200)
			for i, ok := 0, c.Seek(fmt.Appendf(nil, "key%07d", at)); i < 200; i, ok = i+1, c.Next() {
				if want := fmt.Sprintf("key%07d", at+i); !ok || string(c.Key()) != want {
					return fmt.Errorf("cursor at %q (%v), want %s", c.Key(), c.Err(), want)
				}
			}
			n := at
			for k := range tx.All(fmt.Appendf(nil, "key%07d", at), nil) {
				if string(k) != fmt.Sprintf("key%07d", n) {
					return fmt.Errorf("scan at %q, want %d", k, n)
				}
				if n++; n == at+500 {
					break
				}
			}
			return tx.Err()
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// TestLargeTransactionSmallCache commits a transaction that changes more pages
// than the cache has frames, and recovers it.
func TestLargeTransactionSmallCache(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("some seconds")
	}
	for name, dev := range map[string]nvmap.Device{
		"mapped":     keptDevice{nvmap.NewMem(1 << 30)},
		"not mapped": unmappedDevice{Device: keptDevice{nvmap.NewMem(1 << 30)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys = 150_000 // some 1,500 leaves; 1,024 frames
			o := &Options{CacheBytes: MinCacheBytes, CheckpointBytes: 1 << 30}
			db, err := OpenDevice(dev, o)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				b := db.NewBatch()
				for i := range keys {
					b.Put(fmt.Appendf(nil, "key%07d", i), fmt.Append(nil, round))
				}
				if err := db.Write(b); err != nil {
					t.Fatal(err)
				}
				bounded(t, db)
			}
			if db.early == 0 {
				t.Error("nothing was written early: the transactions fitted")
			}
			abandon(db)
			if db, err = OpenDevice(dev, o); err != nil {
				t.Fatal(err)
			}
			bounded(t, db)
			for i := range keys {
				if v, err := db.Get(fmt.Appendf(nil, "key%07d", i)); err != nil || string(v) != "1" {
					t.Fatalf("key %d: %q, %v", i, v, err)
				}
			}
			bounded(t, db)
			mustCheck(t, db)
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// bounded checks that the frames do not exceed CacheBytes.
func bounded(t testing.TB, db *DB) {
	t.Helper()
	if s := db.m.Stats(); s.CacheUsed > s.CacheBytes || s.FrameBytes > s.CacheBytes {
		t.Errorf("%d bytes of frames, %d counted, under a bound of %d", s.FrameBytes, s.CacheUsed, s.CacheBytes)
	}
}

// TestCachedRecordsAreNotStale: on a device that is not mapped the pages of records have frames.
// Slots are written again and again beside readers. A frame that missed a write would show the
// previous record.
func TestCachedRecordsAreNotStale(t *testing.T) {
	db := cacheDB(t, unmappedDevice{Device: nvmap.NewMem(64 << 20)}, Options{SlabBytes: 4096})
	for round := range 300 {
		for i := range 20 {
			key := fmt.Appendf(nil, "k%d", i)
			want := bytes.Repeat(fmt.Append(nil, round), 20)
			if err := db.Put(key, want); err != nil {
				t.Fatal(err)
			}
			if got, err := db.Get(key); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d: read %.10q, %v", round, got, err)
			}
		}
	}
	if s := db.m.Stats(); s.Hits < 1000 {
		t.Errorf("only %d reads met a frame", s.Hits)
	}
	mustCheck(t, db)
}

func TestCacheOptions(t *testing.T) {
	for what, o := range map[string]Options{
		"too small": {CacheBytes: 1000},
		"negative":  {CacheBytes: -1},
		"policy":    {CachePolicy: "lru"},
	} {
		_, err := OpenDevice(nvmap.NewMem(1<<20), &o)
		if err == nil || !slices.ContainsFunc([]string{"CacheBytes", "CachePolicy"}, func(s string) bool { return bytes.Contains([]byte(err.Error()), []byte(s)) }) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range nvmap.Policies() {
		db := cacheDB(t, nvmap.NewMem(64<<20), Options{CachePolicy: name})
		fillKeys(t, db, 100, "v")
	}
}
