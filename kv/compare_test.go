package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// conditional makes the conditional calls of a store short. It fails the test on an error.
type conditional struct {
	t  testing.TB
	db *DB
}

func (c conditional) put(key, value string) bool {
	c.t.Helper()
	ok, err := c.db.PutIfAbsent([]byte(key), []byte(value))
	must(c.t, err)
	return ok
}

func (c conditional) swap(key, old, value string) bool {
	c.t.Helper()
	ok, err := c.db.CompareAndSwap([]byte(key), []byte(old), []byte(value))
	must(c.t, err)
	return ok
}

func (c conditional) del(key, old string) bool {
	c.t.Helper()
	ok, err := c.db.CompareAndDelete([]byte(key), []byte(old))
	must(c.t, err)
	return ok
}

func wantBool(t testing.TB, what string, got, want bool) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v", what, got)
	}
}

// Values of all places: in a slot, in runs, in runs with the key, and empty. Snapshots keep what
// they saw.
func TestConditional(t *testing.T) {
	for name, open := range map[string]func() (*DB, error){
		"mapped": func() (*DB, error) { return Open("", &Options{Device: "mem", MaxBytes: 64 << 20, SlabBytes: 4096}) },
		"not mapped": func() (*DB, error) {
			return OpenDevice(unmappedDevice{Device: nvmap.NewMem(64 << 20)}, &Options{SlabBytes: 4096})
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := open()
			must(t, err)
			defer func() { mustCheck(t, db); must(t, db.Close()) }()
			c := conditional{t, db}
			for _, key := range []string{"", "k", strings.Repeat("l", 5000)} {
				for _, v := range []string{"", "v", strings.Repeat("m", 3000), strings.Repeat("w", 300<<10), strings.Repeat("x", lentFrom+1)} {
					other := v + "!"
					near := v
					if v != "" {
						near = v[:len(v)-1] + "!"
					}
					wantBool(t, "swap of an absent key", c.swap(key, v, other), false)
					wantBool(t, "delete of an absent key", c.del(key, v), false)
					wantBool(t, "put of an absent key", c.put(key, v), true)
					before, err := db.Begin(false)
					must(t, err)
					wantBool(t, "put of a key that exists", c.put(key, other), false)
					wantBool(t, "swap of a longer value", c.swap(key, other, "x"), false)
					wantBool(t, "swap of a value with another end", c.swap(key, near, v), near == v)
					wantBool(t, "delete with another value", c.del(key, other), false)
					wantBool(t, "swap", c.swap(key, v, other), true)
					wantGet(t, db.Get, key, other, true)
					wantBool(t, "delete with the value before", c.del(key, v), false)
					wantBool(t, "delete", c.del(key, other), true)
					wantGet(t, db.Get, key, "", false)
					wantGet(t, before.Get, key, v, true)
					must(t, before.Rollback())
				}
			}
			ok, err := db.PutIfAbsent(nil, nil)
			wantBool(t, fmt.Sprint("put of nil: ", err), ok, true)
			ok, err = db.CompareAndSwap(nil, nil, []byte("x"))
			wantBool(t, fmt.Sprint("a nil old is the empty value: ", err), ok, true)
		})
	}
}

// An expired key is absent, in the store and among the operations of a group. A swap clears the
// expiry.
func TestConditionalExpiry(t *testing.T) {
	clock := clockAt(time.Unix(1000, 0))
	db := openClocked(t, clock)
	defer func() { must(t, db.Close()) }()
	c := conditional{t, db}
	must(t, db.PutTTL([]byte("a"), []byte("1"), time.Minute))
	must(t, db.PutTTL([]byte("b"), []byte("1"), time.Minute))
	wantBool(t, "swap before the expiry", c.swap("b", "1", "2"), true)
	clock.forward(2 * time.Minute)
	wantBool(t, "swap after the expiry", c.swap("a", "1", "2"), false)
	wantBool(t, "delete after the expiry", c.del("a", "1"), false)
	wantBool(t, "put after the expiry", c.put("a", "3"), true)
	at, err := db.Expiry([]byte("a"))
	if err != nil || !at.IsZero() {
		t.Errorf("a expires at %v, %v", at, err)
	}
	wantGet(t, db.Get, "b", "2", true)
	mustCheck(t, db)
}

// groupOf commits ops together, each as its caller's.
func groupOf(db *DB, ops ...*op) {
	ops[0].group = ops[1:]
	db.turn.hold()
	db.lockReaders()
	db.serve(ops[0], true)
	db.unlockReaders()
	db.turn.give()
}

func (db *DB) opOf(t testing.TB, kind byte, key, value string, expiry int64, c condition) *op {
	o := &op{wake: make(chan struct{}, 1)}
	o.single(kind, []byte(key), []byte(value), expiry)
	o.cond = c
	must(t, db.prepare(&o.entries[0]))
	return o
}

// In a group each condition is judged after the operations before it, and its result is that of
// commits one by one.
func TestConditionalGroup(t *testing.T) {
	clock := clockAt(time.Unix(1000, 0))
	db := openClocked(t, clock)
	defer func() { must(t, db.Close()) }()
	must(t, db.Put([]byte("k"), []byte("old")))
	equals := func(old string) condition { return condition{kind: condEquals, old: []byte(old)} }
	absent := condition{kind: condAbsent}
	steps := []struct {
		o   *op
		met bool
	}{
		{db.opOf(t, record.KindPut, "k", "1", 0, equals("old")), true},
		{db.opOf(t, record.KindPut, "k", "2", 0, equals("old")), false},
		{db.opOf(t, record.KindPut, "k", "2", 0, equals("1")), true},
		{db.opOf(t, record.KindPut, "k", "3", 0, absent), false},
		{db.opOf(t, record.KindDelete, "k", "", 0, equals("1")), false},
		{db.opOf(t, record.KindDelete, "k", "", 0, equals("2")), true},
		{db.opOf(t, record.KindPut, "k", "4", 0, equals("2")), false},
		{db.opOf(t, record.KindPut, "k", "4", 0, absent), true},
		{db.opOf(t, record.KindPut, "k", "5", clock.now().UnixNano(), condition{}), false}, // expired
		{db.opOf(t, record.KindPut, "k", "6", 0, equals("5")), false},
		{db.opOf(t, record.KindPut, "k", "6", 0, absent), true},
		{db.opOf(t, record.KindPut, "new", "7", 0, equals("")), false},
		{db.opOf(t, record.KindPut, "new", "7", 0, absent), true},
		{db.opOf(t, record.KindDelete, "none", "", 0, equals("")), false},
	}
	var ops []*op
	for _, s := range steps {
		ops = append(ops, s.o)
	}
	before := db.Metrics().Commits
	groupOf(db, ops...)
	for i, s := range steps {
		if s.o.err != nil || s.o.cond.met != s.met {
			t.Errorf("step %d: %v, %v; want %v", i, s.o.cond.met, s.o.err, s.met)
		}
	}
	if n := db.Metrics().Commits - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	model{"k": "6", "new": "7"}.compare(t, db)
	// A group of which no condition holds writes nothing.
	before = db.Metrics().Commits
	groupOf(db, db.opOf(t, record.KindPut, "k", "x", 0, absent), db.opOf(t, record.KindDelete, "k", "", 0, equals("x")))
	if n := db.Metrics().Commits - before; n != 0 {
		t.Errorf("%d commits of nothing", n)
	}
	mustCheck(t, db)
}

// Damage under the key of a condition is the error of that call alone, also in a group, and the
// store goes on.
func TestConditionalBesideDamage(t *testing.T) {
	bad := &badRange{}
	db, err := OpenDevice(unmappedDevice{nvmap.NewMem(16 << 20), bad}, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	value := func(n string) string { return strings.Repeat(n, 9000) }
	for _, n := range []string{"a", "b", "c"} {
		must(t, db.Put([]byte(n), []byte(value(n))))
	}
	large := strings.Repeat("L", 300<<10)
	must(t, db.Put([]byte("large"), []byte(large)))
	place := func(key string) nvmap.Off {
		var h btree.Hit
		if res := db.ix.Lookup([]byte(key), &h); res != btree.Found {
			t.Fatalf("%s is not found", key)
		}
		return btree.RefOff(h.Rec)
	}
	must(t, db.m.Write(place("b")+5000, []byte{0}))
	rec, err := db.recordOf(btree.RefSpill|place("large"), []byte("large"), 0)
	must(t, err)
	l, err := db.runs(rec)
	must(t, err)
	must(t, db.m.Write(l.Data()[0].Off+7000, []byte{0}))
	o := (place("c") + nvmap.PageBytes).Page().Off()
	*bad = badRange{o, o + nvmap.PageBytes}
	for key, want := range map[string]error{"b": ErrCorrupt, "c": ErrMediaFault, "large": ErrCorrupt} {
		old := value(key)
		if key == "large" {
			old = large
		}
		ok, err := db.CompareAndSwap([]byte(key), []byte(old), []byte("x"))
		wantErr(t, fmt.Sprint("swap of ", key, ok), err, want)
		ok, err = db.CompareAndDelete([]byte(key), []byte(old))
		wantErr(t, fmt.Sprint("delete of ", key, ok), err, want)
		if key != "large" { // its record is whole, its runs are not
			ok, err = db.PutIfAbsent([]byte(key), []byte("x"))
			wantErr(t, fmt.Sprint("put of ", key, ok), err, want)
		}
		if errors.Is(err, ErrFailed) {
			t.Errorf("%s failed the store: %v", key, err)
		}
	}
	equals := condition{kind: condEquals, old: []byte(value("b"))}
	ops := []*op{
		db.opOf(t, record.KindPut, "b", "x", 0, equals),
		db.opOf(t, record.KindPut, "a", "y", 0, condition{kind: condEquals, old: []byte(value("a"))}),
		db.opOf(t, record.KindPut, "b", "x", 0, equals),
		db.opOf(t, record.KindPut, "d", "z", 0, condition{}),
	}
	groupOf(db, ops...)
	for i, want := range []error{ErrCorrupt, nil, ErrCorrupt, nil} {
		wantErr(t, fmt.Sprint("call ", i, " of the group"), ops[i].err, want)
	}
	wantGet(t, db.Get, "a", "y", true)
	wantGet(t, db.Get, "d", "z", true)
	must(t, db.Put([]byte("b"), nil)) // mends it
	wantBool(t, "swap of what was mended", conditional{t, db}.swap("b", "", "1"), true)
}

// Refusals: nothing is written, and what is not a conflict is an error.
func TestConditionalRefused(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a")
	all := func(what string, want error) {
		t.Helper()
		ok, err := db.PutIfAbsent([]byte("b"), nil)
		wantErr(t, fmt.Sprint("PutIfAbsent ", what, ok), err, want)
		ok, err = db.CompareAndSwap([]byte("a"), []byte("a"), nil)
		wantErr(t, fmt.Sprint("CompareAndSwap ", what, ok), err, want)
		ok, err = db.CompareAndDelete([]byte("a"), []byte("a"))
		wantErr(t, fmt.Sprint("CompareAndDelete ", what, ok), err, want)
		// The error comes first where the condition does not hold.
		_, err = db.CompareAndDelete([]byte("a"), []byte("x"))
		wantErr(t, "CompareAndDelete with another value "+what, err, want)
	}
	must(t, db.Update(func(*Tx) error { all("in an Update", ErrNested); return nil }))
	long := make([]byte, MaxKeyBytes+1)
	_, err := db.PutIfAbsent(long, nil)
	wantErr(t, "PutIfAbsent of a long key", err, ErrKeyTooLarge)
	_, err = db.CompareAndSwap(long, nil, nil)
	wantErr(t, "CompareAndSwap of a long key", err, ErrKeyTooLarge)
	ok, err := db.CompareAndDelete(long, nil)
	if ok || err != nil {
		t.Errorf("CompareAndDelete of a long key: %v, %v", ok, err)
	}
	model{"a": "a"}.compare(t, db)
	must(t, db.Close())
	all("after Close", ErrClosed)
	_, err = db.CompareAndDelete(long, nil)
	wantErr(t, "CompareAndDelete of a long key after Close", err, ErrClosed)

	path := filepath.Join(testDir(t), "s")
	db = openTest(t, path, nil)
	fill(t, db, "a")
	must(t, db.Close())
	db = openTest(t, path, &Options{ReadOnly: true})
	all("of a store opened read-only", ErrReadOnly)

	// The store fails while calls wait: also one whose condition does not hold gets the error.
	db = openMem(t)
	fill(t, db, "a")
	ops := []*op{
		db.opOf(t, record.KindPut, "a", "x", 0, condition{kind: condAbsent}),
		db.opOf(t, record.KindDelete, "a", "", 0, condition{kind: condEquals}),
	}
	_ = db.fail(errInjected)
	groupOf(db, ops...)
	for _, o := range ops {
		wantErr(t, "a call that waited", o.err, ErrFailed)
	}
	groupOf(db, ops[0])
	wantErr(t, "a call that waited alone", ops[0].err, ErrFailed)
}

// A full store refuses a swap and stays as it was, and takes a conditional delete.
func TestConditionalFull(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 4 << 20})
	want := model{}
	for i := 0; ; i++ {
		k, v := fmt.Sprint("key", i), strings.Repeat("v", 100+i%3000)
		ok, err := db.PutIfAbsent([]byte(k), []byte(v))
		if errors.Is(err, ErrFull) {
			wantBool(t, "stored with ErrFull", ok, false)
			break
		}
		must(t, err)
		want[k] = v
	}
	_, err := db.CompareAndSwap([]byte("key0"), []byte(want["key0"]), make([]byte, 3<<20))
	wantErr(t, "swap in a full store", err, ErrFull)
	want.compare(t, db)
	for k, v := range want {
		wantBool(t, "delete in a full store", conditional{t, db}.del(k, v), true)
	}
	model{}.compare(t, db)
	must(t, db.Checkpoint(context.Background()))
	wantBool(t, "put after the deletes", conditional{t, db}.put("key0", "v"), true)
}

// Many goroutines increment counters by swaps and by puts of absent keys: no increment is lost, and
// each key is put by one of them.
func TestConditionalCounters(t *testing.T) {
	const workers, rounds = 6, 120
	for name, o := range map[string]*Options{
		"sync":    {Device: "mem", MaxBytes: 8 << 20, CheckpointBytes: 16 << 10, SlabBytes: 4096},
		"relaxed": {Device: "mem", MaxBytes: 8 << 20, CheckpointBytes: 16 << 10, SlabBytes: 4096, Durability: Relaxed},
	} {
		t.Run(name, func(t *testing.T) {
			db := openTest(t, "", o)
			must(t, db.Put([]byte("n"), []byte("0")))
			var puts atomic.Int64
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					c := conditional{t, db}
					for i := range rounds {
						for swapped := false; !swapped && !t.Failed(); {
							old, err := db.Get([]byte("n"))
							must(t, err)
							n := 0
							fmt.Sscan(string(old), &n)
							swapped = c.swap("n", string(old), fmt.Sprint(n+1))
						}
						if c.put(fmt.Sprint("once", i), fmt.Sprint(w)) {
							puts.Add(1)
						}
						if i%4 == w%4 {
							_ = db.Delete([]byte("none"))
						}
					}
				})
			}
			wg.Wait()
			wantGet(t, db.Get, "n", fmt.Sprint(workers*rounds), true)
			if puts.Load() != rounds {
				t.Errorf("%d puts of %d keys", puts.Load(), rounds)
			}
		})
	}
}

// A large value is compared without a copy of the whole.
func TestConditionalLarge(t *testing.T) {
	db, err := OpenDevice(unmappedDevice{Device: nvmap.NewMem(64 << 20)}, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	value := bytes.Repeat([]byte("v"), 8<<20)
	must(t, db.Put([]byte("k"), value))
	other := bytes.Clone(value)
	other[len(other)-1]++
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ok, err := db.CompareAndSwap([]byte("k"), other, nil)
	runtime.ReadMemStats(&after)
	wantBool(t, fmt.Sprint("swap: ", err), ok, false)
	per := after.TotalAlloc - before.TotalAlloc
	if per > 1<<20 {
		t.Errorf("the comparison of %d bytes allocates %d", len(value), per)
	}
}
