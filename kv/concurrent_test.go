package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// TestTrace26_BatchesAtOneInstant: a writer sets many keys to one number in a batch, small ones and
// large ones, beside point readers, snapshots, iterators and checkpoints. After a reader has seen a
// number, it sees no earlier number in another key of the same batch. A snapshot sees one number
// only.
func TestTrace26_BatchesAtOneInstant(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{4, 200} { // published one by one, and by a root swap
		t.Run(fmt.Sprint("keys=", keys), func(t *testing.T) { batchesAtOneInstant(t, keys) })
	}
}

func batchesAtOneInstant(t *testing.T, keys int) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{SlabBytes: 8192, CheckpointBytes: 64 << 10})
	key := func(i int) []byte { return fmt.Appendf(nil, "key%04d", i) }
	write := func(n uint64) error {
		b := db.NewBatch()
		for i := range keys {
			b.Put(key(i), linearBytes(n))
		}
		return db.Write(b)
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var reads, snapshots atomic.Int64
	var wg sync.WaitGroup
	run := func(name string, f func(rng *rand.Rand) error) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(len(name))))
			for !stop.Load() {
				if err := f(rng); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for range 2 {
		run("point reads", func(rng *rand.Rand) error {
			seen := uint64(0)
			for range 50 {
				n, err := linearValue(db.Get(key(rng.IntN(keys))))
				if err != nil || n < seen {
					return fmt.Errorf("saw %d after %d, %w", n, seen, err)
				}
				seen = n
				reads.Add(1)
			}
			return nil
		})
	}
	run("snapshots", func(*rand.Rand) error {
		return db.View(func(tx *Tx) error {
			snapshots.Add(1)
			first, err := linearValue(tx.Get(key(0)))
			if err != nil {
				return err
			}
			count := 0
			for k, v := range tx.All(nil, nil) {
				if n, err := linearValue(v, nil); err != nil || n != first {
					return fmt.Errorf("%s is %d, the first key %d, %w", k, n, first, err)
				}
				count++
			}
			if count != keys {
				return fmt.Errorf("%d keys", count)
			}
			return tx.Err()
		})
	})
	run("scans", func(*rand.Rand) error {
		first, count := uint64(0), 0
		var wrong error
		err := db.Scan(nil, nil, keys, func(k, v []byte) bool {
			n, err := linearValue(v, nil)
			if count++; count == 1 {
				first = n
			}
			if err != nil || n != first {
				wrong = fmt.Errorf("%s is %d, the first key %d, %w", k, n, first, err)
			}
			return wrong == nil
		})
		if err == nil && wrong == nil && count != keys {
			return fmt.Errorf("%d keys", count)
		}
		return errors.Join(err, wrong)
	})
	run("checkpoints", func(*rand.Rand) error { return db.Checkpoint(context.Background()) })
	batches := uint64(effort.Pick(10_000, 20_000, 200_000, 200_000) / (40 + keys))
	for n := uint64(2); (n < batches || reads.Load() < 20 || snapshots.Load() < 2) && !t.Failed(); n++ {
		if err := write(n); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d point reads, %d snapshots", reads.Load(), snapshots.Load())
}

// TestManyWriters: goroutines write keys of their own with all kinds of calls. Each must find what
// it wrote, and so must the next opening.
func TestManyWriters(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, &Options{SlabBytes: 8192, CheckpointBytes: 256 << 10})
	const writers, calls = 8, 400
	models := make([]model, writers)
	var wg sync.WaitGroup
	for id := range writers {
		models[id] = model{}
		wg.Go(func() {
			if err := ownKeys(db, id, calls, models[id]); err != nil {
				t.Errorf("writer %d: %v", id, err)
			}
		})
	}
	wg.Wait()
	all := model{}
	for _, m := range models {
		for k, v := range m {
			all[k] = v
		}
	}
	all.compare(t, db)
	mustCheck(t, db)
	commits := db.Metrics().Commits
	t.Logf("%d calls in %d commits", writers*calls, commits)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	all.compare(t, openTest(t, path, nil))
}

// ownKeys writes keys that no other goroutine writes, and records them in m.
func ownKeys(db *DB, id, calls int, m model) error {
	rng := rand.New(rand.NewPCG(uint64(id), 5))
	for n := range calls {
		changes := make([]change, 1+rng.IntN(3)*rng.IntN(20))
		for i := range changes {
			changes[i].key = fmt.Sprintf("%d/%03d", id, rng.IntN(60))
			if rng.IntN(4) > 0 {
				v := fmt.Sprint(n, "/", i) + string(make([]byte, rng.IntN(300)))
				changes[i].value = &v
			}
		}
		if err := commitChanges(db, changes, false); err != nil {
			return err
		}
		m.apply(changes)
		k := changes[rng.IntN(len(changes))].key
		v, err := db.Get([]byte(k))
		want, there := m[k]
		if there && (err != nil || string(v) != want) || !there && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("call %d: Get(%s) = %.20q, %v; want %v %.20q", n, k, v, err, there, want)
		}
	}
	return nil
}

// TestTrace28_CloseDuringTraffic closes a store that is in use. Calls succeed or return ErrClosed,
// nothing panics, and all acknowledged writes are there afterwards.
func TestTrace28_CloseDuringTraffic(t *testing.T) {
	for round := range 10 {
		path := filepath.Join(testDir(t), "s")
		db, err := Open(path, &Options{SlabBytes: 8192, CheckpointBytes: 32 << 10})
		if err != nil {
			t.Fatal(err)
		}
		const writers = 4
		acked := make([]int, writers)
		var wg sync.WaitGroup
		until := func(name string, f func(n int) error) {
			wg.Go(func() {
				for n := 0; ; n++ {
					if err := f(n); errors.Is(err, ErrClosed) {
						return
					} else if err != nil && !errors.Is(err, ErrNotFound) {
						t.Errorf("round %d: %s: %v", round, name, err)
						return
					}
				}
			})
		}
		for id := range writers {
			until("put", func(n int) error {
				err := db.Put(fmt.Appendf(nil, "%d/%06d", id, n), make([]byte, 100))
				if err == nil {
					acked[id] = n + 1
				}
				return err
			})
		}
		until("get", func(n int) error { _, err := db.Get(fmt.Appendf(nil, "0/%06d", n)); return err })
		until("view", func(int) error {
			return db.View(func(tx *Tx) error {
				for range tx.All(nil, nil) {
				}
				return tx.Err()
			})
		})
		until("update", func(n int) error {
			return db.Update(func(tx *Tx) error { return tx.Put([]byte("u"), fmt.Append(nil, n)) })
		})
		until("checkpoint", func(int) error { return db.Checkpoint(context.Background()) })
		until("check", func(int) error {
			return db.Check(context.Background(), func(i CheckIssue) { t.Errorf("check: %v", i) })
		})
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		if err := db.Close(); err != nil {
			t.Fatalf("round %d: close: %v", round, err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		wg.Wait()
		again := openTest(t, path, nil)
		for id, n := range acked {
			for i := range n {
				if ok, err := again.Has(fmt.Appendf(nil, "%d/%06d", id, i)); !ok || err != nil {
					t.Fatalf("round %d: acknowledged key %d/%06d: %v, %v", round, id, i, ok, err)
				}
			}
		}
	}
}
