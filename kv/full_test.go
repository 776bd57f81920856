package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// fullCase is a way to fill a store and to empty it.
type fullCase struct {
	slab, value int
	bytes       int64
	form        deleteForm
}

// deleteForm is a way to delete keys of a full store. The store must not refuse it.
type deleteForm struct {
	name string
	do   func(db *DB, keys [][]byte) error
}

// stepKeys is how many keys a form deletes at a time.
const stepKeys = fullDeletes

func deleteForms() []deleteForm {
	steps := func(fn func(db *DB, keys [][]byte) error) func(*DB, [][]byte) error {
		return func(db *DB, keys [][]byte) error {
			for len(keys) > 0 {
				n := min(stepKeys, len(keys))
				if err := fn(db, keys[:n]); err != nil {
					return fmt.Errorf("%d keys before the end: %w", len(keys), err)
				}
				keys = keys[n:]
			}
			return nil
		}
	}
	return []deleteForm{
		{"one by one", steps(func(db *DB, keys [][]byte) error {
			for _, k := range keys {
				if err := db.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})},
		{"batches", steps(func(db *DB, keys [][]byte) error {
			b := db.NewBatch()
			for _, k := range keys {
				b.Delete(k)
			}
			return db.Write(b)
		})},
		{"updates", steps(func(db *DB, keys [][]byte) error {
			return db.Update(func(tx *Tx) error {
				for _, k := range keys {
					if err := tx.Delete(k); err != nil {
						return err
					}
				}
				return nil
			})
		})},
		{"a range", func(db *DB, _ [][]byte) error { return db.DeleteRange(nil, nil) }},
		{"ranges", func(db *DB, _ [][]byte) error { return eachPart(1, db.DeleteRange) }},
		{"a range in an update", func(db *DB, _ [][]byte) error {
			return db.Update(func(tx *Tx) error { return tx.DeleteRange(nil, nil) })
		}},
		{"ranges apart in batches", func(db *DB, _ [][]byte) error { // the lower halves, then the upper ones
			for _, high := range []bool{false, true} {
				b := db.NewBatch()
				_ = eachPart(4, func(start, end []byte) error {
					mid := fmt.Appendf(nil, "%s5", start)
					if high {
						b.DeleteRange(mid, end)
					} else {
						b.DeleteRange(start, mid)
					}
					return nil
				})
				if err := db.Write(b); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

// eachPart calls fn for adjacent ranges of random keys. Each range has this many hundredths of the
// keys.
func eachPart(hundredths int, fn func(start, end []byte) error) error {
	for i := 0; i < 100; i += hundredths {
		end := fmt.Appendf(nil, "%02d", i+hundredths)
		if i+hundredths == 100 {
			end = nil
		}
		if err := fn(fmt.Appendf(nil, "%02d", i), end); err != nil {
			return err
		}
	}
	return nil
}

// TestFullStoreTakesDeletes fills a store with random keys and deletes them, in every form. The
// store then takes about as many again, in every round, for every size of store, slab and value.
// Between rounds it is closed or killed.
func TestFullStoreTakesDeletes(t *testing.T) {
	skipInRace(t)
	if effort.Now() < effort.Full {
		for i, form := range deleteForms() {
			c := fullCase{64 << 10, 500 * max(i%2, i/5), 8 << 20, form}
			t.Run(fmt.Sprintf("values of %d, %s", c.value, form.name), func(t *testing.T) { c.run(t, 3) })
		}
		return
	}
	sizes := effort.Pick(nil, nil, []int64{16 << 20}, []int64{16 << 20, 64 << 20, 256 << 20, 1 << 30})
	for _, size := range sizes {
		for _, slab := range []int{4 << 10, 16 << 10, 64 << 10, 1 << 20} {
			for _, value := range []int{0, 30, 500, 4000} {
				for i, form := range deleteForms() {
					if (size > 64<<20 || effort.Now() == effort.Full) && (i+value+slab>>12)%5 != 0 { // one in five
						continue
					}
					c := fullCase{slab, value, size, form}
					t.Run(fmt.Sprintf("%d MiB, slabs of %d, values of %d, %s", size>>20, slab, value, form.name), func(t *testing.T) {
						c.run(t, effort.Pick(0, 0, 3, 4))
					})
				}
			}
		}
	}
}

func (c fullCase) run(t *testing.T, rounds int) {
	dev := keptDevice{nvmap.NewMem(c.bytes)}
	open := func() *DB {
		db, err := OpenDevice(dev, &Options{SlabBytes: c.slab, EvacuateBytes: -1})
		must(t, err)
		return db
	}
	db := open()
	defer func() { db.Close() }()
	first := 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(1, uint64(round)))
		keys := fillRandomly(t, db, rng, c.value)
		if round == 0 {
			first = len(keys)
		}
		t.Logf("round %d: %d keys", round, len(keys))
		if len(keys) < first*19/20-c.slab/(c.value+32) { // or the records of a slab
			t.Fatalf("round %d: %d keys fit, %d in the first one", round, len(keys), first)
		}
		rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		switch round % 3 {
		case 1:
			abandon(db)
			db = open()
		case 2:
			must(t, db.Close())
			db = open()
		}
		if err := c.form.do(db, keys); err != nil {
			t.Fatalf("round %d, a full store: %v", round, err)
		}
		if db.keys != 0 {
			t.Fatalf("round %d: %d keys are left", round, db.keys)
		}
	}
	mustCheck(t, db)
}

// fillRandomly puts random keys until the store is full.
func fillRandomly(t *testing.T, db *DB, rng *rand.Rand, size int) (keys [][]byte) {
	t.Helper()
	value := bytes.Repeat([]byte{'v'}, size)
	n, salt := 0, rng.Uint32()
	key := func(i int) []byte { return fmt.Appendf(make([]byte, 0, 8), "%08d", scattered(uint32(i), salt)) }
	for some := 512; some > 0; {
		b := db.NewBatch()
		for i := range some {
			b.Put(key(n+i), value)
		}
		switch err := db.Write(b); {
		case err == nil:
			n += some
		case full(err):
			some /= 8
		default:
			t.Fatal(err)
		}
	}
	for i := range n {
		keys = append(keys, key(i))
	}
	return keys
}

// TestKilledFullStoreTakesDeletes: after an opening a full store does not need more kept room than
// it has, so 100 deletes at once succeed.
func TestKilledFullStoreTakesDeletes(t *testing.T) {
	skipInRace(t)
	fullCase{4 << 10, 4000, 16 << 20, deleteForms()[1]}.run(t, 2)
}

// scattered returns the i-th of the numbers below 2^26 in a random order.
func scattered(i, salt uint32) uint32 {
	const bits = 26
	for _, odd := range []uint32{0x9e3779b1, 0x85ebca77, 0xc2b2ae3d} {
		i = (i*odd + salt) % (1 << bits)
		i ^= i >> (bits / 2)
	}
	return i
}

// TestFullStoreSaysWhyItTakesNoDeletes: a transaction with more deletes than a full store keeps
// room for is refused. The error says how many deletes it has and what to do. The store is
// unchanged: a smaller transaction succeeds.
func TestFullStoreSaysWhyItTakesNoDeletes(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(8<<20), &Options{EvacuateBytes: -1})
	must(t, err)
	defer db.Close()
	keys := fillRandomly(t, db, rand.New(rand.NewPCG(1, 1)), 0)
	del := func(n int) error {
		b := db.NewBatch()
		for _, k := range keys[:n] {
			b.Delete(k)
		}
		return db.Write(b)
	}
	n := len(keys) / 4
	before := audit(t, db)
	err = del(n)
	if !full(err) || !strings.Contains(err.Error(), fmt.Sprint(n)) || !strings.Contains(err.Error(), "DeleteRange") {
		t.Errorf("%d deletes: %v", n, err)
	}
	if now := db.Metrics().Keys; now != before.keys {
		t.Errorf("%d keys, %d before", now, before.keys)
	}
	must(t, del(fullDeletes))
	mustCheck(t, db)
}

// TestFullStoreDeletesKeysOfManyLengths: the few slabs kept for tombstones also serve keys of more
// lengths than there are slabs.
func TestFullStoreDeletesKeysOfManyLengths(t *testing.T) {
	for _, d := range []Durability{Sync, Relaxed} {
		dev := keptDevice{nvmap.NewMem(8 << 20)}
		o := &Options{EvacuateBytes: -1, Durability: d, noGroupTimer: true}
		db, err := OpenDevice(dev, o)
		must(t, err)
		var keys [][]byte
		for i := 0; err == nil; i++ {
			key := fmt.Appendf(nil, "%06d%s", i*7919%1_000_003, strings.Repeat("k", i%100*9))
			if err = db.Put(key, make([]byte, 700)); err == nil {
				keys = append(keys, key)
			}
		}
		if !full(err) {
			t.Fatal(err)
		}
		must(t, firstErr(db.Sync(), db.Checkpoint(t.Context())))
		b := db.NewBatch()
		for _, key := range keys[:fullDeletes] {
			b.Delete(key)
		}
		must(t, firstErr(db.Write(b), db.Sync()))
		mustCheck(t, db)
		abandon(db) // a recovery finds them where they are
		db, err = OpenDevice(dev, o)
		must(t, err)
		if got, want := db.Metrics().Keys, int64(len(keys)-fullDeletes); got != want {
			t.Errorf("%v: %d keys are left, not %d", d, got, want)
		}
		mustCheck(t, db)
		abandon(db)
	}
}

// TestFullStoreTakesOverwrites: if a slot is free and no index page must split, a full store takes
// a put, because the pages that the put copies come back.
func TestFullStoreTakesOverwrites(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(2<<20), &Options{EvacuateBytes: -1})
	must(t, err)
	defer db.Close()
	var keys [][]byte
	for i := uint32(0); err == nil; i++ {
		key := fmt.Appendf(nil, "%08d", scattered(i, 1))
		if err = db.Put(key, nil); err == nil {
			keys = append(keys, key)
		}
	}
	if !full(err) {
		t.Fatal(err)
	}
	must(t, db.Delete(keys[0]))
	must(t, db.Checkpoint(t.Context()))
	for _, key := range keys[1:300] {
		must(t, db.Put(key, nil))
	}
	for _, key := range keys[1:300] { // and it keeps the room for deletes
		must(t, db.Delete(key))
	}
	mustCheck(t, db)
}

// TestDeletesOfAFullStoreCost: random deletes take as many fences as in a store that is not full.
// Each copies a leaf and its block, apart from those of the others, and each checkpoint serves at
// least as many deletes as one transaction may have.
func TestDeletesOfAFullStoreCost(t *testing.T) {
	for _, value := range []int{0, 500} {
		db, err := OpenDevice(nvmap.NewMem(8<<20), &Options{EvacuateBytes: -1})
		must(t, err)
		keys := fillRandomly(t, db, rand.New(rand.NewPCG(1, 1)), value)
		n := min(len(keys), 3000)
		before := db.Metrics()
		for _, k := range keys[:n] {
			must(t, db.Delete(k))
		}
		after := db.Metrics()
		checkpoints, fences := after.Checkpoints-before.Checkpoints, after.Fences-before.Fences
		bytes := int64(after.MediaBytes-before.MediaBytes) / int64(n)
		t.Logf("values of %d: %d deletes took %d checkpoints, %d fences, %d bytes each", value, n, checkpoints, fences, bytes)
		if int(checkpoints) > n/fullDeletes+1 || int(fences) > n+n/10 || bytes > 3*(nvmap.PageBytes+1024)/2 {
			t.Errorf("values of %d: %d deletes took %d checkpoints, %d fences, %d bytes each", value, n, checkpoints, fences, bytes)
		}
		must(t, db.Close())
	}
}

// TestCompactOfAFullStore: in a full store, dense or with holes, Compact does what there is room
// for, and does not return ErrFull.
func TestCompactOfAFullStore(t *testing.T) {
	for _, holes := range []bool{false, true} {
		db, err := OpenDevice(nvmap.NewMem(8<<20), &Options{EvacuateBytes: -1})
		must(t, err)
		rng := rand.New(rand.NewPCG(5, 5))
		keys := fillRandomly(t, db, rng, 100)
		if holes {
			for i, k := range keys {
				if i%3 == 0 {
					must(t, db.Delete(k))
				}
			}
		}
		size := db.Metrics().DeviceBytes
		for range 2 {
			must(t, db.Compact(t.Context()))
		}
		if now := db.Metrics().DeviceBytes; now > size {
			t.Errorf("holes %v: %d bytes after Compact, %d before", holes, now, size)
		}
		mustCheck(t, db)
		must(t, db.Close())
	}
}
