package kv

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"nvkv/nvmap"
)

// openMem opens a store in the memory of the process, for tests without crashes.
func openMem(t testing.TB) *DB {
	t.Helper()
	return openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// wantGet compares a value. want "" with ok false means absent.
func wantGet(t testing.TB, get func([]byte) ([]byte, error), key, want string, ok bool) {
	t.Helper()
	v, err := get([]byte(key))
	if !ok {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q) = %q, %v; want ErrNotFound", key, v, err)
		}
		return
	}
	if err != nil || string(v) != want {
		t.Errorf("Get(%q) = %q, %v; want %q", key, v, err, want)
	}
}

func TestUpdateCommits(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	must(t, db.Put([]byte("a"), []byte("old")))
	must(t, db.Put([]byte("b"), []byte("old")))
	before := db.Metrics()
	calls := 0
	must(t, db.Update(func(tx *Tx) error {
		calls++
		must(t, tx.Put([]byte("a"), []byte("new")))
		must(t, tx.Delete([]byte("b")))
		must(t, tx.Put([]byte("c"), nil))
		wantGet(t, tx.Get, "a", "new", true)
		wantGet(t, tx.Get, "b", "", false)
		wantGet(t, tx.Get, "c", "", true)
		// Other readers do not see it yet.
		wantGet(t, db.Get, "a", "old", true)
		return db.View(func(other *Tx) error {
			wantGet(t, other.Get, "b", "old", true)
			wantGet(t, other.Get, "c", "", false)
			return nil
		})
	}))
	if calls != 1 {
		t.Errorf("fn ran %d times", calls)
	}
	if m := db.Metrics(); m.Fences-before.Fences != 1 || m.Commits-before.Commits != 1 {
		t.Errorf("%d fences and %d commits, want 1 and 1", m.Fences-before.Fences, m.Commits-before.Commits)
	}
	model{"a": "new", "c": ""}.compare(t, db)
	must(t, db.Close())
	model{"a": "new", "c": ""}.compare(t, openTest(t, path, nil))
}

func TestUpdateRollsBack(t *testing.T) {
	db := openMem(t)
	must(t, db.Put([]byte("a"), []byte("1")))
	boom := errors.New("boom")
	change := func(tx *Tx) {
		must(t, tx.Put([]byte("a"), []byte("2")))
		must(t, tx.Put([]byte("b"), []byte("2")))
		must(t, tx.DeleteRange(nil, nil))
	}
	fences := db.Metrics().Fences
	if err := db.Update(func(tx *Tx) error { change(tx); return boom }); err != boom {
		t.Errorf("Update returned %v, want fn's own error", err)
	}
	func() {
		defer func() {
			if r := recover(); r != boom {
				t.Errorf("recovered %v, want the panic of fn", r)
			}
		}()
		_ = db.Update(func(tx *Tx) error { change(tx); panic(boom) })
	}()
	done := make(chan struct{})
	go func() { // like t.FailNow inside fn
		defer close(done)
		_ = db.Update(func(tx *Tx) error { change(tx); runtime.Goexit(); return nil })
	}()
	<-done
	tx, err := db.Begin(true)
	must(t, err)
	change(tx)
	must(t, tx.Rollback())
	must(t, tx.Rollback())
	if n := db.Metrics().Fences; n != fences {
		t.Errorf("%d fences for what was rolled back", n-fences)
	}
	model{"a": "1"}.compare(t, db)
	must(t, db.Put([]byte("b"), nil)) // the turn was given back
}

func TestUpdateEmptyCostsNoFence(t *testing.T) {
	db := openMem(t)
	before := db.Metrics()
	must(t, db.Update(func(tx *Tx) error { return nil }))
	must(t, db.Update(func(tx *Tx) error { return tx.Delete([]byte("absent")) }))
	must(t, db.Update(func(tx *Tx) error {
		return errors.Join(tx.Put([]byte("a"), nil), tx.Delete([]byte("a")))
	}))
	if m := db.Metrics(); m.Fences != before.Fences || m.Commits != before.Commits {
		t.Errorf("%d fences, %d commits for nothing", m.Fences-before.Fences, m.Commits-before.Commits)
	}
}

// TestTxOneRecordPerKey is R1 for transactions: however often a key was put, only the last record
// is written.
func TestTxOneRecordPerKey(t *testing.T) {
	db := openMem(t)
	before := db.Metrics()
	must(t, db.Update(func(tx *Tx) error {
		for i := range 100 {
			must(t, tx.Put([]byte("k"), fmt.Append(nil, i)))
		}
		return tx.Put([]byte("l"), []byte("x"))
	}))
	if n := db.Metrics().Puts - before.Puts; n != 2 {
		t.Errorf("%d records written, want 2", n)
	}
	model{"k": "99", "l": "x"}.compare(t, db)
}

// TestTrace21_TxSlicesStay holds slices during everything that can happen in a Tx.
func TestTrace21_TxSlicesStay(t *testing.T) {
	db := openMem(t)
	big := bytes.Repeat([]byte("big"), 100_000)
	must(t, db.Put([]byte("a"), []byte("base")))
	must(t, db.Put([]byte("big"), big))
	must(t, db.Update(func(tx *Tx) error {
		base, err := tx.Get([]byte("a"))
		must(t, err)
		bigBase, err := tx.Get([]byte("big"))
		must(t, err)
		key, value := []byte("a"), []byte("first")
		must(t, tx.Put(key, value))
		copy(value, "XXXXX") // the caller may reuse its buffer
		first, err := tx.Get([]byte("a"))
		must(t, err)
		must(t, tx.Put([]byte("a"), []byte("other")))
		must(t, tx.Delete([]byte("big")))
		must(t, tx.Put([]byte("b"), bytes.Repeat([]byte("x"), 1000)))
		if string(base) != "base" || string(first) != "first" || !bytes.Equal(bigBase, big) {
			t.Errorf("slices changed: %q, %q", base, first)
		}
		if got := append(first, "!!"...); string(got) != "first!!" {
			t.Error(got)
		}
		wantGet(t, tx.Get, "a", "other", true)
		return nil
	}))
	model{"a": "other", "b": string(bytes.Repeat([]byte("x"), 1000))}.compare(t, db)
}

// TestR3_SlicesOfATxStay: a slice that a transaction returned from its own changes does not change
// when the key is put again. Without the rule it does.
func TestR3_SlicesOfATxStay(t *testing.T) {
	for _, off := range withWithout(ruleR3) {
		db, err := OpenDevice(nvmap.NewMem(8<<20), &Options{broken: off})
		must(t, err)
		must(t, db.Update(func(tx *Tx) error {
			must(t, tx.Put([]byte("a"), []byte("first")))
			first, err := tx.Get([]byte("a"))
			must(t, err)
			must(t, tx.Put([]byte("a"), []byte("other")))
			if stayed := string(first) == "first"; stayed != (off == 0) {
				t.Errorf("without rules %x the slice reads %q", off, first)
			}
			return nil
		}))
		must(t, db.Close())
	}
}

// TestTrace27_UpdateSerializable: goroutines increment counters, each reading the value that the
// one before wrote, with Puts and batches in between.
func TestTrace27_UpdateSerializable(t *testing.T) {
	db := openMem(t)
	const workers, rounds, counters = 6, 150, 3
	key := func(i int) []byte { return fmt.Append(nil, "counter", i%counters) }
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				must(t, db.Update(func(tx *Tx) error {
					sum := 0
					for _, v := range tx.Prefix([]byte("counter")) {
						n, err := strconv.Atoi(string(v))
						must(t, err)
						sum += n
					}
					seen, err := tx.Get([]byte("sum"))
					if err != nil && !errors.Is(err, ErrNotFound) {
						return err
					}
					if had, _ := strconv.Atoi(string(seen)); had != sum {
						t.Errorf("sum is %d, counters say %d", had, sum)
					}
					v, _ := tx.Get(key(w + i))
					n, _ := strconv.Atoi(string(v))
					return errors.Join(
						tx.Put(key(w+i), fmt.Append(nil, n+1)),
						tx.Put([]byte("sum"), fmt.Append(nil, sum+1)),
					)
				}))
				must(t, db.Put(fmt.Append(nil, "noise", w), fmt.Append(nil, i)))
			}
		})
	}
	wg.Wait()
	wantGet(t, db.Get, "sum", strconv.Itoa(workers*rounds), true)
}

// TestUpdateWriteSkew: transactions that read two accounts and draw from one never draw more than
// both hold. With reads from snapshots they would.
func TestUpdateWriteSkew(t *testing.T) {
	db := openMem(t)
	const workers, rounds = 4, 200
	accounts := [2][]byte{[]byte("a"), []byte("b")}
	balance := func(get func([]byte) ([]byte, error)) (sum int) {
		for _, k := range accounts {
			v, err := get(k)
			must(t, err)
			n, err := strconv.Atoi(string(v))
			must(t, err)
			sum += n
			runtime.Gosched()
		}
		return sum
	}
	for _, k := range accounts {
		must(t, db.Put(k, []byte("50")))
	}
	var drawn atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range rounds {
				must(t, db.Update(func(tx *Tx) error {
					if balance(tx.Get) < 1 {
						return nil
					}
					v, err := tx.Get(accounts[w%2])
					must(t, err)
					n, err := strconv.Atoi(string(v))
					must(t, err)
					drawn.Add(1)
					return tx.Put(accounts[w%2], fmt.Append(nil, n-1))
				}))
				must(t, db.View(func(tx *Tx) error {
					if sum := balance(tx.Get); sum < 0 || sum > 100 {
						t.Errorf("a balance of %d", sum)
					}
					return nil
				}))
			}
		})
	}
	wg.Wait()
	if sum := balance(db.Get); sum != 0 || drawn.Load() != 100 {
		t.Errorf("%d drawn of 100, and %d left", drawn.Load(), sum)
	}
}

// BenchmarkUpdateTx is BenchmarkUpdate through transactions of one Put each.
func BenchmarkUpdateTx(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	value := make([]byte, benchValueBytes)
	next := benchOrder(keys, benchOps)
	for b.Loop() {
		if err := db.Update(func(tx *Tx) error { return tx.Put(next(), value) }); err != nil {
			b.Fatal(err)
		}
	}
}
