package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// linearKeys is small, so that clients use the same keys all the time.
const linearKeys = 3

// linearState is the value of each key, 0 for absent. It is the state of the model and the result
// of a snapshot.
type linearState [linearKeys]uint64

// linearOp is one call. A get has one key and returns its value. A snapshot and a scan return all
// keys. A write sets the keys whose value is not unset. A transaction returns what it read of all
// keys, and then writes.
type linearOp struct {
	kind  string
	key   int
	write linearState
}

// unset marks keys that a write does not change.
const unset = ^uint64(0)

// linearModel is a map of linearKeys keys that changes at single instants.
var linearModel = porcupine.Model{
	Init: func() any { return linearState{} },
	Step: func(state, input, output any) (bool, any) {
		st, op := state.(linearState), input.(linearOp)
		switch op.kind {
		case "get":
			return output.(linearState)[op.key] == st[op.key], st
		case "snapshot", "scan":
			return output.(linearState) == st, st
		case "transaction":
			if output.(linearState) != st {
				return false, st
			}
		}
		for k, v := range op.write {
			if v != unset {
				st[k] = v
			}
		}
		return true, st
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %v", input, output) },
}

// TestLinearizable runs clients that put, delete, delete ranges, write batches, read and write in
// transactions, get, scan and take snapshots on three keys. There must be an order in which each
// call takes effect at one instant and that explains their histories. If transactions read from
// snapshots only, there would be none.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	small := func(change func(*Options)) *Options {
		o := &Options{SlabBytes: 4096, CheckpointBytes: 16 << 10}
		change(o)
		return o
	}
	onFile := func(change func(*Options)) func(*testing.T) *DB {
		return func(t *testing.T) *DB { return openTest(t, filepath.Join(testDir(t), "s"), small(change)) }
	}
	for name, open := range map[string]func(*testing.T) *DB{
		"sync":      onFile(func(*Options) {}),
		"relaxed":   onFile(func(o *Options) { o.Durability, o.groupBytes = Relaxed, 4096 }),
		"root swap": onFile(func(o *Options) { o.privateFrom = 2 }),
		"not mapped": func(t *testing.T) *DB {
			db, err := OpenDevice(unmappedDevice{Device: nvmap.NewMem(64 << 20)}, small(func(*Options) {}))
			must(t, err)
			t.Cleanup(func() { must(t, db.Close()) })
			return db
		},
	} {
		t.Run(name, func(t *testing.T) { linearizable(t, open(t)) })
	}
}

func linearizable(t *testing.T, db *DB) {
	rounds := 30
	if testing.Short() {
		rounds = 3
	}
	undecided := 0
	for round := range uint64(rounds) {
		history := linearHistory(t, db, round)
		switch porcupine.CheckOperationsTimeout(linearModel, history, 20*time.Second) {
		case porcupine.Illegal:
			t.Fatalf("seed %d: no order explains these %d calls", round, len(history))
		case porcupine.Unknown:
			undecided++
			t.Logf("seed %d: not decided in time", round)
		}
	}
	if undecided > rounds/2 {
		t.Errorf("%d of %d histories not decided", undecided, rounds)
	}
	mustCheck(t, db)
}

// TestLinearModelObjects shows that the model distinguishes wrong histories from right ones: half a
// batch seen between two gets, and a replaced value that is read.
func TestLinearModelObjects(t *testing.T) {
	all := linearOp{kind: "batch", write: linearState{7, 7, 7}}
	get := func(key int) linearOp { return linearOp{kind: "get", key: key} }
	call := func(client int, op linearOp, out linearState, from, to int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: op, Output: out, Call: from, Return: to}
	}
	half := []porcupine.Operation{
		call(0, all, linearState{}, 0, 100),
		call(1, get(0), linearState{7, 0, 0}, 10, 20),
		call(1, get(1), linearState{0, 0, 0}, 30, 40),
	}
	if porcupine.CheckOperations(linearModel, half) {
		t.Error("half a batch was found right")
	}
	half[2].Output = linearState{0, 7, 0}
	if !porcupine.CheckOperations(linearModel, half) {
		t.Error("a whole batch was found wrong")
	}
	stale := []porcupine.Operation{
		call(0, all, linearState{}, 0, 10),
		call(0, linearOp{kind: "snapshot"}, linearState{7, 7, 0}, 20, 30),
	}
	if porcupine.CheckOperations(linearModel, stale) {
		t.Error("a stale snapshot was found right")
	}
	// Write skew: two transactions read the same state, and each writes a different key. Snapshots
	// would allow it, but in no serial order does the second one read that state.
	skew := []porcupine.Operation{
		call(0, linearOp{kind: "transaction", write: linearState{1, unset, unset}}, linearState{}, 0, 100),
		call(1, linearOp{kind: "transaction", write: linearState{unset, 2, unset}}, linearState{}, 0, 100),
	}
	if porcupine.CheckOperations(linearModel, skew) {
		t.Error("write skew was found right")
	}
	skew[1].Output = linearState{1, 0, 0}
	if !porcupine.CheckOperations(linearModel, skew) {
		t.Error("two transactions in order were found wrong")
	}
}

// linearHistory lets clients work on absent keys and returns their history.
func linearHistory(t *testing.T, db *DB, seed uint64) []porcupine.Operation {
	t.Helper()
	for k := range linearKeys {
		if err := db.Delete(linearKey(k)); err != nil {
			t.Fatal(err)
		}
	}
	const clients, calls = 5, 40
	began := time.Now()
	histories := make([][]porcupine.Operation, clients)
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for n := range calls {
				op := randomLinear(rng, uint64(id*calls+n+1))
				call := time.Since(began).Nanoseconds()
				out, err := op.run(db)
				if err != nil {
					t.Errorf("seed %d: %+v: %v", seed, op, err)
					return
				}
				histories[id] = append(histories[id], porcupine.Operation{
					ClientId: id, Input: op, Call: call, Output: out, Return: time.Since(began).Nanoseconds(),
				})
			}
		})
	}
	wg.Wait()
	var all []porcupine.Operation
	for _, h := range histories {
		all = append(all, h...)
	}
	return all
}

func linearKey(k int) []byte { return fmt.Appendf(nil, "key%d", k) }

func randomLinear(rng *rand.Rand, value uint64) linearOp {
	op := linearOp{key: rng.IntN(linearKeys), write: linearState{unset, unset, unset}}
	switch r := rng.IntN(20); {
	case r < 5:
		op.kind = "get"
	case r < 8:
		op.kind = "snapshot"
	case r < 10:
		op.kind = "scan"
	case r < 13:
		op.kind = "put"
		op.write[op.key] = value
	case r < 15:
		op.kind = "delete"
		op.write[op.key] = 0
	case r < 16:
		op.kind = "range" // from key on
		for k := op.key; k < linearKeys; k++ {
			op.write[k] = 0
		}
	default:
		op.kind = [...]string{"batch", "transaction"}[rng.IntN(2)]
		for k := range op.write {
			op.write[k] = [...]uint64{value, value, 0, unset}[rng.IntN(4)]
		}
	}
	return op
}

// run makes the call. The size of a value depends on the value, so records move between classes,
// and some lie in runs.
func (op *linearOp) run(db *DB) (out linearState, err error) {
	switch op.kind {
	case "get":
		out[op.key], err = linearValue(db.Get(linearKey(op.key)))
	case "snapshot":
		err = db.View(func(tx *Tx) error {
			if out, err = readLinear(tx); err != nil {
				return err
			}
			again, err := readLinear(tx)
			if err == nil && again != out {
				return fmt.Errorf("a snapshot changed from %v to %v", out, again)
			}
			return err
		})
	case "scan":
		var wrong error
		err = db.Scan(nil, nil, linearKeys, func(k, v []byte) bool {
			var at int
			if _, wrong = fmt.Sscanf(string(k), "key%d", &at); wrong == nil {
				out[at], wrong = linearValue(v, nil)
			}
			return wrong == nil
		})
		err = errors.Join(err, wrong)
	case "put":
		err = db.Put(linearKey(op.key), linearBytes(op.write[op.key]))
	case "delete":
		err = db.Delete(linearKey(op.key))
	case "range":
		err = db.DeleteRange(linearKey(op.key), linearKey(linearKeys))
	case "batch":
		b := db.NewBatch()
		op.each(b.Put, b.Delete)
		err = db.Write(b)
	case "transaction":
		err = db.Update(func(tx *Tx) error {
			if out, err = readLinear(tx); err != nil {
				return err
			}
			var err error
			op.each(
				func(k, v []byte) { err = firstErr(err, tx.Put(k, v)) },
				func(k []byte) { err = firstErr(err, tx.Delete(k)) })
			return err
		})
	}
	return out, err
}

// readLinear reads all keys in a Tx and yields between them.
func readLinear(tx *Tx) (out linearState, err error) {
	for k := range out {
		if out[k], err = linearValue(tx.Get(linearKey(k))); err != nil {
			return out, err
		}
		runtime.Gosched()
	}
	return out, nil
}

func (op *linearOp) each(put func(k, v []byte), del func(k []byte)) {
	for k, v := range op.write {
		switch v {
		case unset:
		case 0:
			del(linearKey(k))
		default:
			put(linearKey(k), linearBytes(v))
		}
	}
}

func linearBytes(v uint64) []byte {
	size := 8 + int(v%5)*60
	if v%7 == 0 {
		size = 3000
	}
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], v)
	}
	return b
}

func linearValue(b []byte, err error) (uint64, error) {
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(b)
	if string(b) != string(linearBytes(v)) {
		return 0, fmt.Errorf("value %d is mixed up", v)
	}
	return v, nil
}

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
