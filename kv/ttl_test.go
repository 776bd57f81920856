package kv

import (
	"bytes"
	"context"
	"fmt"
	"math"
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
