package kv

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nvkv/kv/internal/btree"
)

const rangeRounds = 25

// TestTxRangesLikeModel runs transactions and batches of puts, deletes and ranges on trees of
// several levels. It compares a model with the open Tx, in both directions and by point reads, and
// with the store afterwards.
func TestTxRangesLikeModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			db := memStore(t, &Options{privateFrom: []int{0, 50}[seed%2]})
			r := rangeRun{db: db, rng: rand.New(rand.NewPCG(seed, 12)), keys: 3000, pad: []string{"", strings.Repeat("p", 300), strings.Repeat("l", 880)}[seed%3], model: model{}}
			for round := range rangeRounds {
				if err := r.round(); err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
				if round%5 == 4 {
					must(t, db.Checkpoint(t.Context()))
					mustCheck(t, db)
				}
			}
		})
	}
}

// rangeRun is a store with a model of it.
type rangeRun struct {
	db    *DB
	rng   *rand.Rand
	keys  int
	pad   string
	model model
}

func (r *rangeRun) key(i int) string { return fmt.Sprintf("%06d", i) + r.pad }

// change returns a change; ranges are short, or long.
func (r *rangeRun) change() change {
	i := r.rng.IntN(r.keys)
	switch n := r.rng.IntN(40); {
	case n == 0:
		return delRange(r.key(i), r.key(i+1+r.rng.IntN(r.keys/3)))
	case n < 4:
		return delRange(r.key(i), r.key(i+1+r.rng.IntN(5)))
	case n < 10:
		return del(r.key(i))
	}
	return put(r.key(i), fmt.Sprint(r.rng.IntN(1000)))
}

func (r *rangeRun) round() error {
	var changes []change
	for range r.rng.IntN(1 << r.rng.IntN(11)) {
		changes = append(changes, r.change())
	}
	after := r.model.with(changes)
	do := func(tx *Tx) error {
		for i, ch := range changes {
			if err := changeTx(tx, ch); err != nil {
				return err
			}
			if i == len(changes)/2 {
				if err := r.look(tx, r.model.with(changes[:i+1])); err != nil {
					return err
				}
			}
		}
		return r.look(tx, after)
	}
	r.db.ix.BeyondReserve()
	err := r.db.withTurn(func() error { r.db.ix.KeepReserved(btree.Stock{}); return nil })
	if err != nil {
		return err
	}
	switch r.rng.IntN(4) {
	case 0:
		err = r.db.Write(batchOf(changes))
	case 1:
		tx, begun := r.db.Begin(true)
		if err := firstErr(begun, do(tx), tx.Rollback()); err != nil {
			return err
		}
		after = r.model
	default:
		err = r.db.Update(do)
	}
	if err != nil {
		return err
	}
	if n := r.db.ix.BeyondReserve(); n > 0 {
		return fmt.Errorf("%d pages beyond the reserve", n)
	}
	r.model = after
	got, err := contents(r.db)
	if err != nil {
		return err
	}
	if d := difference(got, after); d != "" {
		return fmt.Errorf("after the commit: %s", d)
	}
	return nil
}

func changeTx(tx *Tx, ch change) error {
	switch {
	case ch.upTo != nil:
		return tx.DeleteRange([]byte(ch.key), []byte(*ch.upTo))
	case ch.value == nil:
		return tx.Delete([]byte(ch.key))
	}
	return tx.Put([]byte(ch.key), []byte(*ch.value))
}

// look compares the state that a Tx sees with a model.
func (r *rangeRun) look(tx *Tx, want model) error {
	keys := want.keys()
	i := 0
	for k, v := range tx.All(nil, nil) {
		if i == len(keys) || string(k) != keys[i] || string(v) != want[keys[i]] {
			return fmt.Errorf("key %d is %.6s", i, k)
		}
		i++
	}
	if i != len(keys) {
		return fmt.Errorf("%d keys, want %d", i, len(keys))
	}
	for k := range tx.Backward(nil, nil) {
		if i--; i < 0 || string(k) != keys[i] {
			return fmt.Errorf("backward: key %d is %.6s", i, k)
		}
	}
	c := tx.Cursor()
	defer c.Close()
	for range 50 {
		k := r.key(r.rng.IntN(r.keys))
		v, err := tx.Get([]byte(k))
		w, ok := want[k]
		if has, _ := tx.Has([]byte(k)); ok != (err == nil) || has != ok || string(v) != w {
			return fmt.Errorf("%.6s has %q, %v; want %q", k, v, err, w)
		}
		up, _ := slices.BinarySearch(keys, k)
		if got := c.Seek([]byte(k)); got != (up < len(keys)) || got && string(c.Key()) != keys[up] {
			return fmt.Errorf("Seek(%.6s) finds %.6s", k, c.Key())
		}
		if got := c.Prev(); got != (up > 0) || got && string(c.Key()) != keys[up-1] {
			return fmt.Errorf("Prev from %.6s finds %.6s", k, c.Key())
		}
		if got := c.Next(); got != (up < len(keys)) || got && string(c.Key()) != keys[up] {
			return fmt.Errorf("Next from below %.6s finds %.6s", k, c.Key())
		}
		if got := c.SeekLT([]byte(k)); got != (up > 0) || got && string(c.Key()) != keys[up-1] {
			return fmt.Errorf("SeekLT(%.6s) finds %.6s", k, c.Key())
		}
	}
	return firstErr(c.Err(), tx.Err())
}

// rangeForm is a way to delete the keys of a range.
type rangeForm struct {
	name string
	do   func(db *DB, start, mid, end []byte) error
}

func rangeForms() []rangeForm {
	return []rangeForm{
		{"DB", func(db *DB, start, mid, end []byte) error { return db.DeleteRange(start, end) }},
		{"Tx", func(db *DB, start, mid, end []byte) error {
			return db.Update(func(tx *Tx) error { return tx.DeleteRange(start, end) })
		}},
		{"Tx with a put", func(db *DB, start, mid, end []byte) error {
			return db.Update(func(tx *Tx) error {
				return firstErr(tx.Put(start, nil), tx.DeleteRange(start, end), tx.Put(start, []byte("v")))
			})
		}},
		{"Tx with two ranges and a delete", func(db *DB, start, mid, end []byte) error {
			return db.Update(func(tx *Tx) error {
				return firstErr(tx.Delete(mid), tx.DeleteRange(start, mid), tx.DeleteRange(append(mid, 0), end))
			})
		}},
		{"Batch with a put", func(db *DB, start, mid, end []byte) error {
			b := db.NewBatch()
			b.Put([]byte("other"), nil)
			b.DeleteRange(start, end)
			return db.Write(b)
		}},
	}
}

// TestTxRangesDoNotGrow: a range beside other changes of a transaction takes as little space as a
// range alone.
func TestTxRangesDoNotGrow(t *testing.T) {
	n := int(fromEnv(t, "NVKV_RANGE_KEYS", 20_000))
	key := func(i int) []byte { return fmt.Appendf(nil, "%08d%0180d", i, 0) } // few per leaf
	alone := int64(0)
	for _, form := range rangeForms() {
		db := memStore(t, nil)
		inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), nil) })
		before := db.Metrics()
		must(t, form.do(db, key(n/100), key(n/2), key(n-n/100)))
		after := db.Metrics()
		grown := after.DeviceBytes - before.DeviceBytes
		t.Logf("%s: %d bytes before, %d more; records of %d bytes", form.name, before.DeviceBytes, grown, after.RecordBytes-before.RecordBytes)
		if form.name == "DB" {
			alone = grown
		} else if grown > alone {
			t.Errorf("%s: the store grew by %d bytes, by %d for the range by itself", form.name, grown, alone)
		}
		mustCheck(t, db)
	}
}

// TestTxRangesHoldNoKeys: the memory that a Tx takes for a range does not depend on the number of
// its keys.
func TestTxRangesHoldNoKeys(t *testing.T) {
	db := memStore(t, nil)
	const n = 20_000
	inBatches(t, db, n, func(b *Batch, i int) { b.Put(smallKey(i), nil) })
	must(t, db.Update(func(tx *Tx) error {
		allocated := testing.AllocsPerRun(1, func() {
			must(t, tx.DeleteRange(smallKey(1), smallKey(n-1)))
			must(t, tx.DeleteRange(smallKey(n/2), smallKey(n/2+10)))
			if got := len(keysOf(tx.All(smallKey(2), smallKey(n-2)))); got != 0 {
				t.Errorf("%d keys are left", got)
			}
		})
		if allocated > 200 {
			t.Errorf("a range of %d keys: %v allocations", n, allocated)
		}
		return nil
	}))
	if m := db.Metrics(); m.Keys != 2 {
		t.Errorf("%d keys are left", m.Keys)
	}
}

// TestRangesSideBySide deletes in one transaction all keys except single ones here and there.
// Between ranges that have whole leaves, leaves become so empty that they merge.
func TestRangesSideBySide(t *testing.T) {
	for _, step := range []int{3, 150, 400, 1500} {
		db := memStore(t, nil)
		const n = 6000
		inBatches(t, db, n, func(b *Batch, i int) { b.Put(smallKey(i), nil) })
		want := model{}
		must(t, db.Update(func(tx *Tx) error {
			for i := 0; i < n; i += step {
				want[string(smallKey(i))] = ""
				if err := tx.DeleteRange(append(smallKey(i), 0), smallKey(i+step)); err != nil {
					return err
				}
			}
			return nil
		}))
		want.compare(t, db)
		m := db.Metrics()
		if m.Keys != int64(len(want)) || m.Deletes != uint64(n-len(want)) {
			t.Errorf("step %d: %d keys and %d deletes, want %d and %d", step, m.Keys, m.Deletes, len(want), n-len(want))
		}
		if most := 1 + len(want)/20; m.IndexLeaves > most {
			t.Errorf("step %d: %d leaves of %d keys", step, m.IndexLeaves, len(want))
		}
		mustCheck(t, db)
	}
}

// TestRangesMeetInALeaf deletes two ranges with no key between them. Their common bound is at each
// place of a tree with few keys per page in turn. The remains of a leaf after the first range may
// merge with a leaf that lies in the second range as a whole, and must not do so before that leaf
// has left.
func TestRangesMeetInALeaf(t *testing.T) {
	db := memStore(t, nil)
	const n = 60
	key := func(i int) []byte { return fmt.Appendf(nil, "%0700d", i) }
	for at := 2; at < n-2; at++ {
		inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), nil) })
		before := db.Metrics().Deletes
		b := db.NewBatch()
		b.DeleteRange(key(1), append(key(at), 0))
		b.DeleteRange(append(key(at), 1), key(n-1))
		must(t, db.Write(b))
		m := db.Metrics()
		if m.Keys != 2 || m.Deletes-before != n-2 {
			t.Fatalf("ranges that meet at %d: %d keys are left after %d deletes", at, m.Keys, m.Deletes-before)
		}
		mustCheck(t, db)
	}
}
