package kv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/internal/effort"
)

// epochOf returns the epoch of the index.
func epochOf(db *DB) uint64 {
	db.publish.Lock()
	defer db.publish.Unlock()
	return db.ix.Epoch()
}

// A snapshot that ends before the next write leaves no epoch behind, so the write copies no page.
func TestEpochEndsWithItsSnapshot(t *testing.T) {
	put := func(db *DB, v string) { must(t, db.Put([]byte("k"), []byte(v))) }
	begin := func(db *DB) *Tx {
		tx, err := db.Begin(false)
		must(t, err)
		return tx
	}
	sees := func(tx *Tx, want string) {
		t.Helper()
		got, err := tx.Get([]byte("k"))
		if must(t, err); string(got) != want {
			t.Errorf("the snapshot has %q, want %q", got, want)
		}
	}
	for _, c := range []struct {
		what   string
		undone bool
		run    func(db *DB)
	}{
		{"alone", true, func(db *DB) { must(t, begin(db).Rollback()) }},
		{"two of one state", true, func(db *DB) {
			a, b := begin(db), begin(db)
			must(t, a.Rollback())
			sees(b, "1")
			must(t, b.Rollback())
		}},
		{"another of the same state stays", false, func(db *DB) {
			a, b := begin(db), begin(db)
			must(t, a.Rollback())
			put(db, "2")
			sees(b, "1")
			must(t, b.Rollback())
		}},
		{"written meanwhile", false, func(db *DB) {
			a := begin(db)
			put(db, "2")
			sees(a, "1")
			must(t, a.Rollback())
		}},
		{"a checkpoint began it too", false, func(db *DB) {
			a := begin(db)
			must(t, db.Checkpoint(t.Context()))
			must(t, a.Rollback())
			put(db, "2")
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			db := openMem(t)
			put(db, "1")
			before := epochOf(db)
			c.run(db)
			if after := epochOf(db); (after == before) != c.undone {
				t.Errorf("epoch %d after %d", after, before)
			}
			put(db, "3")
			tx := begin(db)
			put(db, "4")
			sees(tx, "3")
			must(t, tx.Rollback())
			mustCheck(t, db)
		})
	}
}

// An older snapshot keeps its state while epochs begin and end above it.
func TestEpochsAboveAnOlderSnapshot(t *testing.T) {
	db := openMem(t)
	must(t, db.Put([]byte("k"), []byte("1")))
	old, err := db.Begin(false)
	must(t, err)
	for i := range 3 {
		must(t, db.Put([]byte("k"), fmt.Append(nil, i)))
		before := epochOf(db)
		must(t, db.View(func(*Tx) error { return nil }))
		if after := epochOf(db); after != before {
			t.Errorf("epoch %d after %d", after, before)
		}
	}
	if v, err := old.Get([]byte("k")); err != nil || string(v) != "1" {
		t.Errorf("the old snapshot has %q, %v", v, err)
	}
	must(t, old.Rollback())
}

// A snapshot that is opened and closed beside a build leaves the epoch of the build alone.
func TestEpochOfABuildStays(t *testing.T) {
	looked := false
	var db *DB
	db = openTest(t, "", &Options{Device: "mem", MaxBytes: 64 << 20, reached: func(i instant) {
		if i != atBuilt || looked {
			return
		}
		looked = true
		before := epochOf(db)
		must(t, db.View(func(*Tx) error { return nil }))
		if after := epochOf(db); after != before {
			t.Errorf("epoch %d after %d", after, before)
		}
	}})
	b := db.NewBatch()
	for i := range 3000 {
		b.Put(fmt.Appendf(nil, "key%05d", i), []byte("value"))
	}
	must(t, db.Write(b))
	if !looked {
		t.Fatal("nothing was built beside the tree")
	}
	mustCheck(t, db)
}

// Snapshots that come and go in any order beside writes see what they saw when they began.
func TestSnapshotsInAnyOrder(t *testing.T) {
	for seed := range uint64(effort.Pick(2, 4, 40, 200)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { snapshotsInAnyOrder(t, seed) })
	}
}

func snapshotsInAnyOrder(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 64 << 20, SlabBytes: 16 << 10})
	type snapshot struct {
		tx   *Tx
		want map[string]string
	}
	now := map[string]string{}
	var open []snapshot
	check := func(s snapshot) {
		got := map[string]string{}
		for k, v := range s.tx.All(nil, nil) {
			got[string(k)] = string(v)
		}
		if must(t, s.tx.Err()); !maps.Equal(got, s.want) {
			t.Fatalf("a snapshot has %d keys and not its %d, or other values", len(got), len(s.want))
		}
	}
	for i := range 1500 {
		switch r := rng.IntN(16); {
		case r < 7:
			k, v := fmt.Sprintf("key%04d", rng.IntN(600)), fmt.Sprint(i)
			now[k] = v
			must(t, db.Put([]byte(k), []byte(v)))
		case r < 8:
			k := fmt.Sprintf("key%04d", rng.IntN(600))
			delete(now, k)
			must(t, db.Delete([]byte(k)))
		case r < 12 && len(open) < 6:
			tx, err := db.Begin(false)
			must(t, err)
			open = append(open, snapshot{tx, maps.Clone(now)})
		case r < 15 && len(open) > 0:
			at := rng.IntN(len(open))
			if rng.IntN(4) == 0 {
				check(open[at])
			}
			must(t, open[at].tx.Rollback())
			open = slices.Delete(open, at, at+1)
		case i%50 == 0:
			must(t, db.Checkpoint(t.Context()))
		}
	}
	for _, s := range open {
		check(s)
		must(t, s.tx.Rollback())
	}
	mustCheck(t, db)
}
