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

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// longGone is an expiry in the past for every clock.
const longGone = 1

// putExpired stores a record that has expired already.
func putExpired(t testing.TB, db *DB, key string, value []byte) {
	t.Helper()
	must(t, db.single(record.KindPut, []byte(key), value, longGone))
}

// slotOf returns the reference of a key in the index.
func slotOf(t testing.TB, db *DB, key string) btree.Ref {
	t.Helper()
	var p btree.Path
	must(t, db.ix.Find([]byte(key), &p))
	if !p.Found() {
		t.Fatalf("%q is not in the index", key)
	}
	return db.ix.Old(&p)
}

// TestTTL stores values with an expiry in every way, and reads them.
func TestTTL(t *testing.T) {
	const soon = time.Minute
	clock := clockAt(time.Now())
	db := openClocked(t, clock)
	big := bytes.Repeat([]byte("b"), 300_000)
	batch := db.NewBatch()
	batch.PutTTL([]byte("batch"), []byte("v"), soon)
	batch.PutTTL([]byte("batch-long"), []byte("v"), time.Hour)
	must(t, db.PutTTL([]byte("db"), []byte("v"), soon))
	must(t, db.PutTTL([]byte("db-big"), big, soon))
	must(t, db.PutTTL([]byte("db-long"), []byte("v"), math.MaxInt64))
	must(t, db.PutTTL([]byte("db-cleared"), []byte("v"), soon))
	must(t, db.Put([]byte("db-cleared"), []byte("v")))
	must(t, db.Write(batch))
	must(t, db.Update(func(tx *Tx) error {
		must(t, tx.PutTTL([]byte("tx"), []byte("v"), soon))
		must(t, tx.PutTTL([]byte("tx-cleared"), []byte("v"), soon))
		must(t, tx.Put([]byte("tx-cleared"), []byte("v")))
		wantGet(t, tx.Get, "tx", "v", true)
		wantGet(t, tx.Get, "db", "v", true)
		return nil
	}))
	snapshot, err := db.Begin(false)
	must(t, err)
	before := keysWithValues(snapshot)
	if len(before) != 8 {
		t.Errorf("%d keys before anything expired, want 8", len(before))
	}
	clock.forward(3 * soon)

	m := model{"batch-long": "v", "db-long": "v", "db-cleared": "v", "tx-cleared": "v"}
	m.compare(t, db)
	for _, k := range []string{"db", "db-big", "batch", "tx"} {
		wantGet(t, db.Get, k, "", false)
		if ok, err := db.Has([]byte(k)); ok || err != nil {
			t.Errorf("Has(%q) = %v, %v", k, ok, err)
		}
	}
	// A snapshot does not lose records, even to a collection.
	must(t, db.Checkpoint(context.Background()))
	if n := db.Metrics().Expired; n != 4 {
		t.Errorf("%d collected, want 4", n)
	}
	if after := keysWithValues(snapshot); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the snapshot changed")
	}
	v, err := snapshot.Get([]byte("db-big"))
	if err != nil || !bytes.Equal(v, big) {
		t.Errorf("the snapshot lost a value: %v", err)
	}
	mustCheck(t, db)
	must(t, snapshot.Rollback())
	m.compare(t, db)

	// Writing a batch again begins a new time to live.
	must(t, db.Write(batch))
	wantGet(t, db.Get, "batch", "v", true)
}

func keysWithValues(tx *Tx) map[string]int {
	out := map[string]int{}
	for k, v := range tx.All(nil, nil) {
		out[string(k)] = len(v)
	}
	return out
}

func TestTTLOfNothingDeletes(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a", "b", "c", "d", "e", "f")
	batch := db.NewBatch()
	batch.PutTTL([]byte("c"), []byte("x"), 0)
	batch.PutTTL([]byte("d"), []byte("x"), -time.Hour)
	must(t, db.PutTTL([]byte("a"), []byte("x"), 0))
	must(t, db.PutTTL([]byte("b"), []byte("x"), math.MinInt64))
	must(t, db.Write(batch))
	must(t, db.Update(func(tx *Tx) error { return tx.PutTTL([]byte("e"), []byte("x"), 0) }))
	model{"f": "f"}.compare(t, db)
	wantErr(t, "PutTTL of a long key", db.PutTTL(make([]byte, MaxKeyBytes+1), nil, time.Hour), ErrKeyTooLarge)
	if m := db.Metrics(); m.Puts != 6 || m.Deletes != 5 {
		t.Errorf("%d puts and %d deletes, want 6 and 5", m.Puts, m.Deletes)
	}
}

func TestExpiryAfter(t *testing.T) {
	for _, c := range []struct {
		at   int64
		ttl  time.Duration
		want int64
	}{{5, 7, 12}, {5, math.MaxInt64, 0}, {math.MaxInt64 - 1, 1, math.MaxInt64}, {math.MaxInt64, 1, 0}} {
		if got := expiryAfter(c.at, c.ttl); got != c.want {
			t.Errorf("expiryAfter(%d, %d) = %d, want %d", c.at, c.ttl, got, c.want)
		}
	}
}

// TestTTLReopened: the expiry is on the medium, and a recovery reads it.
func TestTTLReopened(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	open := func() *DB {
		db, err := Open(path, nil)
		must(t, err)
		return db
	}
	for _, cleanly := range []bool{true, false} {
		db := open()
		must(t, db.PutTTL([]byte("later"), []byte("v"), time.Hour))
		putExpired(t, db, "gone", []byte("v"))
		if cleanly {
			must(t, db.Close())
		} else {
			abandon(db)
		}
		db = open()
		model{"later": "v"}.compare(t, db)
		mustCheck(t, db)
		must(t, db.Checkpoint(context.Background()))
		if m := db.Metrics(); m.Keys != 1 || m.Expired != 1 {
			t.Errorf("cleanly=%v: %d keys left, %d collected; want 1 and 1", cleanly, m.Keys, m.Expired)
		}
		must(t, db.Close())
	}
}

// TestR7Slots follows the slot and the runs of an expired record. They are not free when it
// expires, nor when it leaves the index, nor while a snapshot sees it, nor before a checkpoint
// frozen later has flipped.
func TestR7Slots(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		for _, snapshot := range []bool{false, true} {
			db := openMem(t)
			putExpired(t, db, "k", make([]byte, size))
			o := btree.RefOff(slotOf(t, db, "k"))
			var rec record.Record
			must(t, db.readRecord(o, &rec))
			held := []nvmap.Off{o}
			if rec.Spilled() {
				l, err := db.runs(&rec)
				must(t, err)
				held = append(held, l.Extents[0].Off)
			}
			used := func(when string, want bool) {
				t.Helper()
				for _, o := range held {
					if db.r.IsUsed(o) != want {
						t.Errorf("size %d, snapshot %v: used is %v %s", size, snapshot, !want, when)
					}
				}
				mustCheck(t, db)
			}
			used("when it has expired", true)
			var tx *Tx
			if snapshot {
				var err error
				tx, err = db.Begin(false)
				must(t, err)
			}
			must(t, db.collectExpired(context.Background(), math.MaxInt))
			if m := db.Metrics(); m.Keys != 0 || m.Expired != 1 {
				t.Errorf("%d keys, %d collected", m.Keys, m.Expired)
			}
			used("when it has left the index", true)
			if snapshot {
				must(t, db.Checkpoint(context.Background()))
				used("while a snapshot sees it", true)
				must(t, tx.Rollback())
				used("before a later checkpoint", true)
			}
			f, err := db.freeze()
			must(t, err)
			used("when the checkpoint is frozen", true)
			wantErr(t, "thaw", db.thaw(f, context.Canceled), context.Canceled)
			used("when that one came to nothing", true)
			must(t, db.Checkpoint(context.Background()))
			used("when the checkpoint has flipped", false)
		}
	}
}

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

// TestTTLCrash is trace 9: records expire, are collected, their keys are put again or deleted, with
// checkpoints in between. After a power failure at any fence no overwritten version is visible.
func TestTTLCrash(t *testing.T) {
	operations := effort.Pick(15, 20, 60, 400)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](2, 4, 4, 100)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.quiet, c.images, c.between = seed%2 == 1, []int{3}, -1
			if err := runTTLCrash(c, operations); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d images", c.opened)
		})
	}
}

func runTTLCrash(c *crasher, n int) error {
	s, err := c.start()
	if err != nil {
		return err
	}
	s.m.Watch(true)
	for range n {
		if err := firstErr(s.failure(), s.ttlStep()); err != nil {
			_ = s.end()
			return err
		}
		if c.rng.IntN(3) == 0 {
			s.crash(1)
		}
	}
	return firstErr(s.failure(), s.end())
}

// ttlStep does one operation. Records that it stores with an expiry have expired.
func (s *session) ttlStep() error {
	switch r := s.c.rng.IntN(20); {
	case r < 5:
		return s.transact(s.c.changes(1), false)
	case r < 10:
		return s.transact(s.c.changes(1), true)
	case r < 13:
		return s.transact(s.c.changes(4), s.c.rng.IntN(2) == 0)
	case r < 17:
		s.m.Log("collect")
		return guarded(func() error { return s.db.collectExpired(context.Background(), math.MaxInt) })
	case r < 19 && !s.c.quiet:
		s.m.Log("checkpoint")
		return guarded(func() error { return s.db.checkpoint(context.Background()) })
	}
	return s.reopen(!s.c.quiet && s.c.rng.IntN(2) == 0)
}

// transact makes changes in one Update. If expired is set, its puts have expired, so they have the
// effect of deletes.
func (s *session) transact(changes []change, expired bool) error {
	s.m.Log("%v expired=%v", changes, expired)
	s.next = s.acked.with(changes)
	err := guarded(func() error {
		return s.db.Update(func(tx *Tx) error {
			for _, ch := range changes {
				var err error
				switch {
				case ch.value == nil:
					err = tx.Delete([]byte(ch.key))
				case expired:
					delete(s.next, ch.key)
					err = tx.set(record.KindPut, []byte(ch.key), []byte(*ch.value), longGone)
				default:
					err = tx.Put([]byte(ch.key), []byte(*ch.value))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	s.acked, s.next = s.next, nil
	return nil
}

// TestTTLMasksOlderVersions has the two traces of R7 in their simplest form. The slot of a
// collected record must not be reused yet if the record is the last one that hides an older version
// of its key from a recovery (1), or if the checkpointed index names it (2).
func TestTTLMasksOlderVersions(t *testing.T) {
	for _, checkpointed := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpointed=", checkpointed), func(t *testing.T) {
			dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
			db, err := OpenDevice(crashDevice{dev}, &Options{SlabBytes: 4096})
			must(t, err)
			defer abandon(db)
			ctx, value := context.Background(), []byte("one")
			must(t, db.Put([]byte("a"), value))
			// Keeps the old version's slot from being reused.
			snapshot, err := db.Begin(false)
			must(t, err)
			defer func() { _ = snapshot.Rollback() }()
			putExpired(t, db, "a", value)
			if checkpointed {
				must(t, db.checkpoint(ctx))
			}
			must(t, db.collectExpired(ctx, math.MaxInt))
			// Updates use the free slots of the class in turn.
			for i := range 2000 {
				must(t, db.single(record.KindPut, fmt.Append(nil, i%100), value, math.MaxInt64))
			}
			after := dev.Crash(1)
			again, err := OpenDevice(crashDevice{after}, nil)
			must(t, err)
			defer abandon(again)
			wantGet(t, again.Get, "a", "", false)
			must(t, clean(again))
		})
	}
}
