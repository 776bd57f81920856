package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// awaitQueued returns when n ops wait for the turn. It hangs only if the code does.
func awaitQueued(t testing.TB, db *DB, n int32) {
	t.Helper()
	for i := 0; db.turn.queued.Load() < n; i++ {
		if i == 600_000 {
			t.Fatalf("%d wait for the turn, not %d", db.turn.queued.Load(), n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// TestTurnOpens: while a Tx is open, guests get the turn, in their order, and writers wait.
// Afterwards the writers get it, in their order.
func TestTurnOpens(t *testing.T) {
	db := openMem(t)
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	come := func(name string, enter func()) {
		n := db.turn.queued.Load()
		wg.Go(func() {
			enter()
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			db.turn.give()
		})
		awaitQueued(t, db, n+1)
	}
	db.turn.hold()
	come("writer 1", db.turn.hold)
	come("guest 1", db.turn.visit)
	come("writer 2", db.turn.hold)
	come("guest 2", db.turn.visit)
	db.turn.open()
	db.turn.give()
	for db.turn.guests.Load() > 0 {
		time.Sleep(100 * time.Microsecond)
	}
	db.turn.visit() // after both
	if got := fmt.Sprint(order); got != "[guest 1 guest 2]" {
		t.Errorf("came in while it was open: %s", got)
	}
	come("guest 3", db.turn.visit)
	db.turn.shut()
	db.turn.give()
	wg.Wait()
	if got := fmt.Sprint(order[2:]); got != "[writer 1 writer 2 guest 3]" {
		t.Errorf("came in afterwards: %s", got)
	}
}

// TestNobodyWaitsForATxToBe: a guest that asks for the turn when a Tx has it, or is about to, gets
// it before the Tx ends.
func TestNobodyWaitsForATxToBe(t *testing.T) {
	for name, call := range map[string]func(db *DB) error{
		"Metrics":    func(db *DB) error { db.Metrics(); return nil },
		"Checkpoint": func(db *DB) error { return db.Checkpoint(context.Background()) },
		"Check":      func(db *DB) error { return clean(db) },
		"Compact":    func(db *DB) error { return db.Compact(context.Background()) },
		"Sync":       (*DB).Sync,
	} {
		t.Run(name, func(t *testing.T) {
			db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, Durability: Relaxed})
			fill(t, db, "a", "b")
			db.turn.hold()
			began, done := make(chan *Tx, 1), make(chan error, 1)
			go func() {
				tx, err := db.Begin(true)
				must(t, err)
				began <- tx
			}()
			awaitQueued(t, db, 1)
			go func() { done <- call(db) }()
			awaitQueued(t, db, 2)
			db.turn.give()
			must(t, <-done)
			tx := <-began
			must(t, tx.Put([]byte("c"), []byte("c")))
			must(t, call(db))
			must(t, sameAs(tx, model{"a": "a", "b": "b", "c": "c"}))
			must(t, tx.Commit())
		})
	}
}

// TestCheckpointsBesideUpdates: Updates that wait for a checkpoint, and checkpoints begun inside an
// Update, beside checkpoints of the background.
func TestCheckpointsBesideUpdates(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 32 << 20, CheckpointBytes: 4096})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 200 {
				must(t, db.Update(func(tx *Tx) error {
					if i%10 == w {
						must(t, db.Checkpoint(context.Background()))
					}
					return tx.Put(fmt.Append(nil, w, i%50), make([]byte, 1000))
				}))
			}
		})
	}
	wg.Wait()
}

// fullStore returns a full store with a counter c. Its values have expired or, in relaxed mode,
// were deleted in the open group.
func fullStore(t *testing.T, d Durability) *DB {
	t.Helper()
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, EvacuateBytes: -1, Durability: d, noGroupTimer: true})
	must(t, db.Put([]byte("c"), make([]byte, 8)))
	expiry := int64(longGone)
	if d == Relaxed {
		expiry = 0
	}
	for i, left := 0, true; left; i++ {
		b := db.NewBatch()
		b.move(fmt.Appendf(nil, "v%04d", i), make([]byte, 30_000), expiry)
		es, err := b.entries(nil, db.now())
		must(t, err)
		db.turn.hold()
		err = db.commitAlone(es) // a Write would make room
		db.turn.give()
		if left = !full(err); left {
			must(t, err)
		}
	}
	if d == Relaxed {
		must(t, db.Sync())
		must(t, db.DeleteRange([]byte("v"), []byte("w")))
	}
	return db
}

// add increments the counter c in an Update.
func add(db *DB, besides func(*Tx) error) error {
	return db.Update(func(tx *Tx) error {
		v, err := tx.Get([]byte("c"))
		if err != nil {
			return err
		}
		if err := tx.Put([]byte("c"), binary.LittleEndian.AppendUint64(nil, binary.LittleEndian.Uint64(v)+1)); err != nil {
			return err
		}
		return besides(tx)
	})
}

// TestI19_NobodyCommitsInBetween: an Update finds the store full, and while it makes room another
// one adds to the counter that it has read. Both additions count.
func TestI19_NobodyCommitsInBetween(t *testing.T) {
	for _, d := range []Durability{Sync, Relaxed} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			db := fullStore(t, d)
			other := make(chan error, 1)
			must(t, add(db, func(tx *Tx) error {
				go func() { other <- add(db, func(*Tx) error { return nil }) }()
				awaitQueued(t, db, 1)
				return tx.Put([]byte("large"), make([]byte, 60_000))
			}))
			must(t, <-other)
			v, err := db.Get([]byte("c"))
			must(t, err)
			if n := binary.LittleEndian.Uint64(v); n != 2 {
				t.Errorf("two increments make %d", n)
			}
		})
	}
}

// TestRoomIsMadeByMoving: the moves that make room in a full store are not writes of a user: the Tx
// that needs the room is committed.
func TestRoomIsMadeByMoving(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, EvacuateBytes: -1})
	n := 0
	for ; ; n++ {
		err := db.Put(fmt.Appendf(nil, "%05d", n), make([]byte, 1000))
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
	}
	for i := 0; i < n; i += 2 {
		must(t, db.Delete(fmt.Appendf(nil, "%05d", i)))
	}
	must(t, db.Checkpoint(context.Background()))
	for i := 0; db.r.Unreserved() > 2; i++ {
		must(t, db.Put(fmt.Appendf(nil, "run %d", i), make([]byte, 60_000)))
	}
	before := db.Metrics()
	must(t, db.Update(func(tx *Tx) error { return tx.Put([]byte("large"), make([]byte, 5*db.r.SlabBytes())) }))
	if db.Metrics().EvacuatedRecords == before.EvacuatedRecords {
		t.Error("nothing had to move: the test is none")
	}
}

// TestI19_MovesBesideATx compacts a store during a writable Tx, and sweeps expired records. The Tx
// continues to see its first state. Without its snapshot it would read pages and slots that were
// reused.
func TestI19_MovesBesideATx(t *testing.T) {
	if err := moveBesideTx(t, 0); err != nil {
		t.Error(err)
	}
	if !switches(t) {
		return
	}
	if err := moveBesideTx(t, ruleI19); err == nil {
		t.Error("nothing is amiss without I19")
	}
}

func moveBesideTx(t *testing.T, broken rules) (err error) {
	path := filepath.Join(testDir(t), "s")
	db, err := Open(path, &Options{EvacuateBytes: -1, broken: broken})
	must(t, err)
	defer abandon(db)
	want := fillRandom(t, db, 4000, 100, 1)
	for i, k := range want.keys() {
		if i%4 != 0 {
			must(t, db.Delete([]byte(k)))
			delete(want, k)
		}
	}
	tx, err := db.Begin(true)
	must(t, err)
	defer tx.Rollback()
	slices := map[string][]byte{}
	for k := range want {
		slices[k], err = tx.Get([]byte(k))
		must(t, err)
	}
	for range 3 {
		must(t, db.Compact(context.Background()))
	}
	for k, v := range slices {
		if string(v) != want[k] {
			return fmt.Errorf("the slice of %q became %.20q", k, v)
		}
	}
	if err := sameAs(tx, want); err != nil {
		return err
	}
	must(t, tx.Put([]byte("new"), []byte("1")))
	must(t, tx.Commit())
	want["new"] = "1"
	return firstErr(holds(db, want), clean(db))
}
