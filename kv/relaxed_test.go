package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// relaxedCrasher is the crash suite for relaxed mode. The oracle: the store has the state of some
// moment since it was last made durable, a prefix of the history, and nothing that Sync promised is
// missing.
func relaxedCrasher(seed uint64) *crasher {
	c := newCrasher(seed)
	c.opt.Durability = Relaxed
	c.opt.noGroupTimer = true
	c.opt.listLevels = int(seed % 2)
	c.opt.groupBytes = []int64{600, 4000, 1 << 20}[seed%3]
	return c
}

func TestRelaxedCrashes(t *testing.T) {
	skipInRace(t)
	operations := effort.Pick(40, 25, 150, 400)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](6, 6, 6, 40)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := relaxedCrasher(seed)
			c.quiet = seed%2 == 1
			c.ops[0] = operations
			err := runCrashes(c)
			t.Logf("%d images of %d operations recovered in %v", c.opened, c.ops[0], time.Since(c.began).Round(time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestMixedCrashes: some transactions of a durable store are relaxed, or the other way round. A
// durable one also makes all transactions before it durable.
func TestMixedCrashes(t *testing.T) {
	skipInRace(t)
	operations := effort.Pick(40, 25, 150, 400)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](8, 8, 8, 40)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := relaxedCrasher(seed)
			c.opt.Durability = Durability(seed / 2 % 2)
			c.mixed, c.quiet = true, seed%2 == 1
			c.ops[0] = operations
			err := runCrashes(c)
			t.Logf("%d images of %d operations recovered in %v", c.opened, c.ops[0], time.Since(c.began).Round(time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// relaxedTwice is tellTwice in relaxed mode.
func relaxedTwice(t *testing.T, off rules, tr trace) {
	tellTwice(t, off, func(s *session) error {
		abandon(s.db)
		s.c.opt.Durability, s.c.opt.noGroupTimer = Relaxed, true
		if err := s.open(); err != nil {
			return err
		}
		return tr(s)
	})
}

// Trace 10: slots that a group superseded in itself are reused one fence early. A crash tears the
// record that took one, leaves nothing else of the next group, and a recovery counts a record too
// few of the last group: writes that Sync promised are lost.
func TestTrace10_RecordsOfAGroupOutliveItsFence(t *testing.T) {
	relaxedTwice(t, ruleR2, func(s *session) error {
		a := wide("a")
		return script(
			func() error { return s.do(put(a, "1"), put(a, "2"), put(a, "3"), put(a, "4")) }, // a slab
			s.sync,
			func() error { return s.doCrashing(false, put(a, "5")) },
		)
	})
}

// R2 in a durable store with a relaxed transaction: a slot that a snapshot held until after that
// transaction is reused while the record that replaced it may still be lost.
func TestR2_RelaxedTransactionOfADurableStore(t *testing.T) {
	tellTwice(t, ruleR2, func(s *session) error {
		s.c.mixed = true
		a := wide("a")
		var tx *Tx
		return script(
			func() error { return s.writeAs([]change{put(a, "1")}, false, false) },
			func() (err error) { tx, err = s.db.Begin(false); return err },
			func() error { return s.writeAs([]change{put(a, "2")}, false, true) },
			func() error { return tx.Rollback() },
			func() error {
				for i := range 4 {
					if err := s.writeAs([]change{put(wide("b"), fmt.Sprint(i))}, false, true); err != nil {
						return err
					}
				}
				return nil
			},
			func() error { s.crash(s.c.images[0]); return s.err },
		)
	})
}

// TestSetDurability: a durable transaction of a relaxed store costs a fence, and another one if a
// group is open. A relaxed one of a durable store costs none.
func TestSetDurability(t *testing.T) {
	for _, d := range []Durability{Sync, Relaxed} {
		db := openTest(t, filepath.Join(testDir(t), "s"), &Options{Durability: d, noGroupTimer: true})
		must(t, db.Put([]byte("first"), nil)) // the store grows
		must(t, db.Sync())
		write := func(d Durability) uint64 {
			before := db.Metrics().Fences
			must(t, db.Update(func(tx *Tx) error { return firstErr(tx.SetDurability(d), tx.Put([]byte("k"), []byte("v"))) }))
			return db.Metrics().Fences - before
		}
		for i, step := range []struct {
			d      Durability
			fences uint64
		}{{Sync, 1}, {Sync, 1}, {Relaxed, 0}, {Relaxed, 0}, {Sync, 2}, {Sync, 1}} {
			if n := write(step.d); n != step.fences {
				t.Errorf("durability %d of the store: step %d: %d fences, want %d", d, i, n, step.fences)
			}
		}
		write(Relaxed)
		before := db.Metrics().Fences
		must(t, db.Update(func(tx *Tx) error { return tx.SetDurability(Sync) }))
		if n := db.Metrics().Fences - before; n != 1 {
			t.Errorf("durability %d of the store: %d fences for a transaction without changes, want 1", d, n)
		}
		mustCheck(t, db)
		must(t, db.Update(func(tx *Tx) error {
			if tx.SetDurability(7) == nil {
				t.Error("durability 7")
			}
			return nil
		}))
		must(t, db.View(func(tx *Tx) error {
			if err := tx.SetDurability(Sync); !errors.Is(err, ErrReadOnly) {
				t.Errorf("in a read-only Tx: %v", err)
			}
			return nil
		}))
	}
}

// TestRelaxedTransactionTimer: the group of a relaxed transaction of a durable store is closed by
// the timer.
func TestRelaxedTransactionTimer(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	must(t, db.Put([]byte("first"), nil))
	before := db.Metrics().Fences
	must(t, db.Update(func(tx *Tx) error { return firstErr(tx.SetDurability(Relaxed), tx.Put([]byte("k"), []byte("v"))) }))
	for deadline := time.Now().Add(effort.Hang); db.Metrics().Fences == before; {
		if time.Now().After(deadline) {
			t.Fatal("no group was closed")
		}
		time.Sleep(groupDelay / 10)
	}
}

// I11: without a closing record nothing says how many records a group has: half of a batch would
// pass for all of it.
func TestI11_GroupsAreClosed(t *testing.T) {
	relaxedTwice(t, ruleI11, func(s *session) error {
		return script(
			func() error { return s.do(put("a", "1"), put("b", "1")) },
			s.sync,
			func() error { return s.doCrashing(false, put("a", "2"), put(wide("b"), "2"), put(wide("c"), "2")) },
		)
	})
}

// TestRelaxedRecoveryKeepsTheGroup crashes again after a recovery that has not yet recorded which
// transactions count. The group must still be complete.
func TestRelaxedRecoveryKeepsTheGroup(t *testing.T) {
	skipInRace(t)
	c := relaxedCrasher(2)
	c.images = effort.Pick([]int{20, 3}, []int{20, 3}, []int{20, 6, 4}, []int{20, 6, 4})
	c.chain = 1
	s, err := c.start()
	must(t, err)
	defer func() { must(t, s.end()) }()
	for i := range 6 {
		must(t, s.do(put(wide("a"), fmt.Sprint(i)), put("b", fmt.Sprint(i)), put(wide("c"), elsewhere)))
	}
	must(t, s.sync())
	s.crash(20)
	must(t, s.err)
}

func TestRelaxedFences(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{Durability: Relaxed, noGroupTimer: true})
	must(t, db.Put([]byte("first"), nil)) // the store grows
	must(t, db.Sync())
	before := db.Metrics().Fences
	for i := range 1000 {
		must(t, db.Put(fmt.Append(nil, i%10), []byte("value")))
	}
	if n := db.Metrics().Fences - before; n != 0 {
		t.Errorf("%d fences for 1000 puts", n)
	}
	must(t, db.Sync())
	must(t, db.Sync())
	if n := db.Metrics().Fences - before; n != 1 {
		t.Errorf("%d fences with Sync, want 1", n)
	}
	mustCheck(t, db)
}

// TestRelaxedTimer: the timer closes a group.
func TestRelaxedTimer(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{Durability: Relaxed})
	must(t, db.Put([]byte("a"), nil))
	before := db.Metrics().Fences
	for deadline := time.Now().Add(effort.Hang); db.Metrics().Fences == before; {
		if time.Now().After(deadline) {
			t.Fatal("no group was closed")
		}
		time.Sleep(groupDelay / 10)
	}
}

// TestRelaxedFull: a full store gets the slots back that a group superseded.
func TestRelaxedFull(t *testing.T) {
	skipInRace(t)
	c := relaxedCrasher(2)
	c.limit = 1 << 20
	s, err := c.start()
	must(t, err)
	defer func() { must(t, s.end()) }()
	full := 0
	for i := range 3000 {
		err := s.db.Put(fmt.Append(nil, i%40), make([]byte, 700))
		if errors.Is(err, ErrFull) {
			full++
		} else {
			must(t, err)
		}
	}
	if full > 0 {
		t.Errorf("%d of 3000 updates found a store full that holds 40 records", full)
	}
	must(t, clean(s.db))
}

func TestRelaxedOption(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "s"), &Options{Durability: 7}); err == nil {
		t.Error("opened")
	}
}

// TestRelaxedIsSeen: committed values can be read, also on files, which show writes late.
func TestRelaxedIsSeen(t *testing.T) {
	for _, kind := range []string{"file", ""} {
		db := openTest(t, filepath.Join(testDir(t), "s"), &Options{Device: kind, Durability: Relaxed, noGroupTimer: true})
		for i := range 100 {
			key := fmt.Append(nil, i%10)
			value := fmt.Append(nil, "value ", i)
			must(t, db.Put(key, value))
			if got, err := db.Get(key); err != nil || string(got) != string(value) {
				t.Fatalf("device %q: Get(%s) = %q, %v; want %q", kind, key, got, err, value)
			}
		}
	}
}
