package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"nvkv/kv/internal/hashindex"
	"nvkv/nvmap"
)

// linearKeys is small, so that clients use the same keys all the time.
const linearKeys = 3

// linearState is the value of each key, 0 for absent. It is the state of the model and the result
// of a snapshot.
type linearState [linearKeys]uint64

// linearOp is one call. A get has one key and returns its value. A snapshot, a scan and a GetMany
// return all keys. A write sets the keys whose value is not unset. A transaction returns what it read
// of all keys, and then writes. A conditional write writes if its key has the value old, and returns
// done for its key if it did.
type linearOp struct {
	kind  string
	key   int
	old   uint64 // 0 for absent
	write linearState
}

// done is the result of a conditional write whose condition held.
const done = 1

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
		case "snapshot", "scan", "getmany":
			return output.(linearState) == st, st
		case "transaction":
			if output.(linearState) != st {
				return false, st
			}
		case "if absent", "swap", "delete if":
			if met := st[op.key] == op.old; !met || output.(linearState)[op.key] != done {
				return met == (output.(linearState)[op.key] == done), st
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

// TestLinearizable runs clients that put, delete, delete ranges, write under conditions, write
// batches, read and write in transactions, get, scan and take snapshots on three keys. There must be an order in which each
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
		"sync":       onFile(func(*Options) {}),
		"relaxed":    onFile(func(o *Options) { o.Durability, o.groupBytes = Relaxed, 4096 }),
		"root swap":  onFile(func(o *Options) { o.privateFrom = 2 }),
		"one bucket": onFile(func(o *Options) { o.HashBytes = hashindex.BucketBytes }),
		"no table":   onFile(func(o *Options) { o.HashBytes = NoHash }),
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

// linearOthers is the number of keys beside those of the model. Clients read them, so that they take
// places in the hash table.
const linearOthers = 20

func linearOther(k int) []byte { return fmt.Appendf(nil, "other%d", k) }

func linearizable(t *testing.T, db *DB) {
	for k := range linearOthers {
		must(t, db.Put(linearOther(k), linearBytes(1)))
	}
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
	// Two conditional writes of an absent key at once: one stores.
	twice := []porcupine.Operation{
		call(0, linearOp{kind: "if absent", write: linearState{1, unset, unset}}, linearState{done}, 0, 100),
		call(1, linearOp{kind: "if absent", write: linearState{2, unset, unset}}, linearState{done}, 0, 100),
	}
	if porcupine.CheckOperations(linearModel, twice) {
		t.Error("an absent key was put twice, and found right")
	}
	twice[0].Output = linearState{}
	if !porcupine.CheckOperations(linearModel, twice) {
		t.Error("one of two puts of an absent key was found wrong")
	}
	twice[1].Output = linearState{}
	if porcupine.CheckOperations(linearModel, twice) {
		t.Error("none of two puts of an absent key was found right")
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
			var seen linearState
			for n := range calls {
				op := randomLinear(rng, uint64(id*calls+n+1), seen)
				call := time.Since(began).Nanoseconds()
				out, err := op.run(db)
				if err == nil {
					_, err = linearValue(db.Get(linearOther(rng.IntN(linearOthers))))
				}
				if err != nil {
					t.Errorf("seed %d: %+v: %v", seed, op, err)
					return
				}
				op.note(&seen, out)
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

// randomLinear returns a call. seen is what its client last knew of the keys.
func randomLinear(rng *rand.Rand, value uint64, seen linearState) linearOp {
	op := linearOp{key: rng.IntN(linearKeys), write: linearState{unset, unset, unset}}
	switch r := rng.IntN(25); {
	case r >= 20:
		op.old, op.write[op.key] = seen[op.key], value
		switch {
		case op.old == 0:
			op.kind = "if absent"
		case r < 23:
			op.kind = "swap"
		default:
			op.kind, op.write[op.key] = "delete if", 0
		}
	case r < 5:
		op.kind = "get"
	case r < 7:
		op.kind = "snapshot"
	case r < 8:
		op.kind = "getmany"
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
	case "getmany":
		var keys [][]byte
		for k := range linearKeys {
			keys = append(keys, linearKey(k))
		}
		var wrong error
		err = db.GetMany(keys, func(i int, v []byte, err error) bool {
			out[i], wrong = linearValue(v, err)
			return wrong == nil
		})
		err = errors.Join(err, wrong)
	case "scan":
		var wrong error
		err = db.Scan(nil, linearOther(0), linearKeys, func(k, v []byte) bool {
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
	case "if absent", "swap", "delete if":
		met := false
		switch op.kind {
		case "if absent":
			met, err = db.PutIfAbsent(linearKey(op.key), linearBytes(op.write[op.key]))
		case "swap":
			met, err = db.CompareAndSwap(linearKey(op.key), linearBytes(op.old), linearBytes(op.write[op.key]))
		default:
			met, err = db.CompareAndDelete(linearKey(op.key), linearBytes(op.old))
		}
		if met {
			out[op.key] = done
		}
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

// note changes what a client knows of the keys by the result of its call. It may be wrong: other
// clients write too.
func (op *linearOp) note(seen *linearState, out linearState) {
	switch op.kind {
	case "get":
		seen[op.key] = out[op.key]
		return
	case "snapshot", "scan":
		*seen = out
		return
	case "if absent", "swap", "delete if":
		if out[op.key] != done {
			return
		}
	}
	for k, v := range op.write {
		if v != unset {
			seen[k] = v
		}
	}
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
