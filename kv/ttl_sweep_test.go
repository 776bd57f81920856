package kv

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// TestSweep: a sweep visits no more than it was told to, continues where it stopped, rests when
// nothing is due, and wakes when something is.
func TestSweep(t *testing.T) {
	db := openMem(t)
	const n = 5000
	b := db.NewBatch()
	for i := range n {
		b.Put(fmt.Appendf(nil, "%06d", i), []byte("v"))
	}
	must(t, db.Write(b))
	for i := 0; i < n; i += 2 {
		putExpired(t, db, fmt.Sprintf("%06d", i), []byte("v"))
	}
	ctx := context.Background()
	leaves := db.ix.Leaves()
	calls := 0
	for last := uint64(0); !swept(db); calls++ {
		must(t, db.collectExpired(ctx, 8))
		got := db.sweep.collected
		if got-last > 9*btree.LeafFanout {
			t.Fatalf("%d collected at once", got-last)
		}
		last = got
	}
	if db.sweep.collected != n/2 || calls < leaves/9 || calls > leaves {
		t.Errorf("%d collected in %d calls over %d leaves", db.sweep.collected, calls, leaves)
	}
	if m := db.Metrics(); m.Keys != n/2 {
		t.Errorf("%d keys left", m.Keys)
	}
	mustCheck(t, db)
	visited, err := db.collectSome(db.now(), 8)
	if visited != 0 || err != nil {
		t.Errorf("a sweep that may rest visits %d leaves, %v", visited, err)
	}
	must(t, db.PutTTL([]byte("000001"), []byte("v"), time.Hour))
	if visited, _ := db.collectSome(db.now(), 8); visited != 0 {
		t.Error("a record that expires in an hour wakes the sweep")
	}
	putExpired(t, db, "000003", []byte("v"))
	must(t, db.Checkpoint(ctx))
	if db.sweep.collected != n/2+1 {
		t.Errorf("%d collected after one more had expired", db.sweep.collected)
	}
	// It also knows when to continue.
	if due := db.sweep.next; due < db.now() || due > expiryAfter(db.now(), time.Hour) {
		t.Errorf("next expiry at %v", time.Unix(0, due))
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, "a canceled sweep", db.collectExpired(canceled, 8), context.Canceled)
}

// swept says whether the sweep has nothing to do.
func swept(db *DB) bool { return !db.sweep.pick(db.now()) }

// TestSweepVisitsWhatIsDue: in a large index the sweep visits only the few leaves that may have
// expired keys, wherever they are.
func TestSweepVisitsWhatIsDue(t *testing.T) {
	db := openMem(t)
	const n = 20_000
	key := func(i int) string { return fmt.Sprintf("%06d", i) }
	b := db.NewBatch()
	for i := range n {
		if i%3 == 0 {
			b.PutTTL([]byte(key(i)), []byte("v"), time.Hour)
		} else {
			b.Put([]byte(key(i)), []byte("v"))
		}
	}
	must(t, db.Write(b))
	visits := func() uint64 {
		before := db.sweep.visited
		must(t, db.collectExpired(context.Background(), math.MaxInt))
		return db.sweep.visited - before
	}
	leaves := uint64(db.ix.Leaves())
	if got := visits(); got < leaves {
		t.Errorf("the first sweep visits %d of %d leaves", got, leaves)
	}
	if got := visits(); got != 0 {
		t.Errorf("a sweep with nothing due visits %d leaves", got)
	}
	for _, spread := range []int{1, 3} { // one key expires; three, far apart
		for i := range spread {
			putExpired(t, db, key(i*n/3+7), []byte("v"))
		}
		collected := db.sweep.collected
		got := visits()
		if got > uint64(spread*(stretchLeaves+1)) || db.sweep.collected-collected != uint64(spread) {
			t.Errorf("%d leaves of %d visited to collect %d of %d", got, leaves, db.sweep.collected-collected, spread)
		}
	}
	mustCheck(t, db)
}

// TestStretches: keys are put, given an expiry, deleted, and leaves split, merge and are visited in
// between. No expiry is forgotten, and the stretches stay few.
func TestStretches(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { sweepBesideChange(t, seed) })
	}
}

func sweepBesideChange(t *testing.T, seed uint64) {
	db := openMem(t)
	rng := rand.New(rand.NewPCG(seed, 42))
	key := func() []byte { return fmt.Appendf(nil, "%05d", rng.IntN(8000)) }
	for range 60 {
		b := db.NewBatch()
		switch rng.IntN(4) {
		case 0, 1:
			for range rng.IntN(300) {
				b.move(key(), []byte("v"), []int64{0, longGone, expiryAfter(db.now(), time.Duration(1+rng.IntN(1000))*time.Hour)}[rng.IntN(3)])
			}
		case 2:
			for range rng.IntN(300) {
				b.Delete(key())
			}
		case 3:
			start := key()
			b.DeleteRange(start, append(start[:3:3], '9'))
		}
		must(t, db.Write(b))
		for range rng.IntN(8) {
			_, err := db.collectSome(db.now(), 1+rng.IntN(sweepLeaves))
			must(t, err)
		}
	}
	must(t, db.collectExpired(context.Background(), math.MaxInt))
	if !swept(db) {
		t.Error("something is due after everything was collected")
	}
	mustCheck(t, db)
	visible := 0
	must(t, db.View(func(tx *Tx) error {
		for range tx.All(nil, nil) {
			visible++
		}
		return tx.Err()
	}))
	if m := db.Metrics(); m.Keys != int64(visible) {
		t.Errorf("%d keys in the index, %d of them visible", m.Keys, visible)
	}
	if len(db.sweep.stretches) > db.ix.Leaves()+1 {
		t.Errorf("%d stretches of %d leaves", len(db.sweep.stretches), db.ix.Leaves())
	}
	checkStretches(t, db)
}

// TestStretchBounds: a key belongs to the last stretch that does not begin above it.
func TestStretchBounds(t *testing.T) {
	for key, want := range map[string][3]int64{"": {7, 0, 0}, "a": {7, 0, 0}, "b": {0, 7, 0}, "ba": {0, 7, 0}, "c": {0, 0, 7}, "d": {0, 0, 7}} {
		sw := sweep{stretches: []stretch{{}, {from: []byte("b")}, {from: []byte("c")}}}
		sw.expires([]byte(key), 7)
		sw.expires([]byte(key), 9)
		sw.expires([]byte(key), 0)
		if got := [3]int64{sw.stretches[0].due, sw.stretches[1].due, sw.stretches[2].due}; got != want || sw.next != 7 {
			t.Errorf("%q: due at %v, next at %d, want %v", key, got, sw.next, want)
		}
	}
}

// checkStretches compares the stretches with the records.
func checkStretches(t *testing.T, db *DB) {
	t.Helper()
	stretches := db.sweep.stretches
	i := 0
	c := btree.NewCursor(&db.ix, false)
	err := c.First(db.ix.Root())
	for ; err == nil && c.Valid(); err = c.Next() {
		key, err := c.Key()
		must(t, err)
		for i+1 < len(stretches) && bytes.Compare(key, stretches[i+1].from) >= 0 {
			i++
			if bytes.Compare(stretches[i-1].from, stretches[i].from) >= 0 {
				t.Errorf("stretch %d is out of order", i)
			}
		}
		if c.Ref()&btree.RefTTL == 0 {
			continue
		}
		expiry, ok := db.expiryOf(c.Ref())
		if due := stretches[i].due; !ok || due == 0 || due > expiry || db.sweep.next > expiry {
			t.Fatalf("%s expires at %d, its stretch is due at %d, the sweep at %d", key, expiry, due, db.sweep.next)
		}
	}
	must(t, err)
}

// TestSweepMakesRoom: a store full of expired records is not full.
func TestSweepMakesRoom(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{MaxBytes: 4 << 20, SlabBytes: 4096})
	value := make([]byte, 900)
	for i := range 20_000 {
		if err := db.single(record.KindPut, fmt.Appendf(nil, "%06d", i), value, longGone); err != nil {
			t.Fatalf("after %d records: %v", i, err)
		}
	}
	if db.Metrics().Expired == 0 {
		t.Error("the store never was full")
	}
}
