package kv

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// countedDisk counts the read requests to a device. A batch counts once.
type countedDisk struct {
	nvmap.Device
	asked, pages atomic.Int64
}

func (d *countedDisk) Read(off nvmap.Off, p []byte) error {
	d.asked.Add(1)
	d.pages.Add(int64((off+nvmap.Off(len(p))+nvmap.PageBytes-1)/nvmap.PageBytes - off/nvmap.PageBytes))
	return d.Device.Read(off, p)
}

// batchedDisk takes batches too.
type batchedDisk struct{ *countedDisk }

func (d batchedDisk) ReadBatch(reqs []nvmap.PageRead) error {
	d.asked.Add(1)
	d.pages.Add(int64(len(reqs)))
	return nvmap.ReadPages(d.Device, reqs)
}

// TestBlockReadsAhead opens a store on a file without the page cache, with little memory, after a
// kill. It walks and checks the store: once with pages read one at a time and once in batches. With
// batches there are far fewer requests, and few more pages.
func TestBlockReadsAhead(t *testing.T) {
	records := effort.Pick(10_000, 10_000, 40_000, 40_000)
	path := filepath.Join(t.TempDir(), "store")
	reopen := func(batched bool, o Options) (*DB, *countedDisk) {
		t.Helper()
		dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: "block", Create: true, MaxBytes: 128 << 20})
		if err != nil {
			effort.NotTested(t, "no O_DIRECT here: %v", err)
		}
		d := &countedDisk{Device: dev}
		o.CacheBytes, o.EvacuateBytes = MinCacheBytes, -1
		var as nvmap.Device = d
		if batched {
			as = batchedDisk{d}
		}
		db, err := OpenDevice(as, &o)
		if err != nil {
			t.Fatal(err)
		}
		return db, d
	}
	keys := benchKeys(records)
	value := make([]byte, 200)
	load, _ := reopen(true, Options{Durability: Relaxed})
	rng := rand.New(rand.NewPCG(1, 1))
	for i, k := range rng.Perm(records) {
		if i == records*3/4 {
			if err := load.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := load.Put(keys[k], value); err != nil {
			t.Fatal(err)
		}
	}
	if err := load.Sync(); err != nil {
		t.Fatal(err)
	}

	walk := func(db *DB) (n int) {
		t.Helper()
		err := db.View(func(tx *Tx) error {
			var last string
			for k := range tx.All(nil, nil) {
				if string(k) <= last {
					return fmt.Errorf("%q follows %q", k, last)
				}
				last = string(k)
				n++
			}
			return tx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	starts := rng.Perm(records)[:50]
	tests := []struct {
		name  string
		least float64 // how many times fewer requests batches need
		run   func(db *DB)
	}{
		{"scan", 8, func(db *DB) {
			if n := walk(db); n != records {
				t.Fatalf("%d records of %d", n, records)
			}
		}},
		{"scan of 100", 4, func(db *DB) {
			for _, k := range starts {
				if err := db.Scan(keys[k], nil, 100, func(_, _ []byte) bool { return true }); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"check", 8, func(db *DB) { mustCheck(t, db) }},
	}
	abandon(load) // recoveries must find the records behind the checkpoint
	type cost struct {
		asked, pages int64
		took         time.Duration
	}
	costs := map[string][2]cost{}
	for i, batched := range []bool{false, true} {
		began := time.Now()
		db, d := reopen(batched, Options{ReadOnly: true}) // the same recovery twice
		if err := db.replayed(); err != nil {
			t.Fatal(err)
		}
		note := func(name string) {
			c := costs[name]
			c[i] = cost{d.asked.Swap(0), d.pages.Swap(0), time.Since(began)}
			costs[name] = c
			began = time.Now()
		}
		note("recovery")
		for _, test := range tests {
			evictAll(t, db)
			began = time.Now()
			d.asked.Store(0)
			d.pages.Store(0)
			test.run(db)
			note(test.name)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	least := map[string]float64{"recovery": 1.5}
	for _, test := range tests {
		least[test.name] = test.least
	}
	for name, c := range costs {
		one, many := c[0], c[1]
		t.Logf("%-12s one by one: asked %6d times for %6d pages, %8v; in batches: %5d times for %6d pages, %8v",
			name, one.asked, one.pages, one.took.Round(time.Millisecond), many.asked, many.pages, many.took.Round(time.Millisecond))
		if float64(many.asked)*least[name] > float64(one.asked) {
			t.Errorf("%s: %d batches, and %d reads one by one: want %.1f times fewer", name, many.asked, one.asked, least[name])
		}
		if many.pages > one.pages*5/4+64 {
			t.Errorf("%s: %d pages in batches, %d one by one", name, many.pages, one.pages)
		}
	}
}
