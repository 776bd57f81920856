package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
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

func TestTxMisuse(t *testing.T) {
	db := openMem(t)
	must(t, db.Put([]byte("a"), []byte("1")))
	methods := func(tx *Tx) map[string]error {
		_, getErr := tx.Get([]byte("a"))
		_, hasErr := tx.Has([]byte("a"))
		c := tx.Cursor()
		if c.First() || c.Valid() || c.Key() != nil {
			t.Error("a cursor stands on a key of a Tx that ended")
		}
		return map[string]error{
			"Get": getErr, "Has": hasErr, "Cursor": c.Close(),
			"Put": tx.Put(nil, nil), "PutTTL": tx.PutTTL(nil, nil, time.Hour), "PutTTL of 0": tx.PutTTL(nil, nil, 0),
			"Delete": tx.Delete(nil), "DeleteRange": tx.DeleteRange(nil, nil),
		}
	}
	all := func(what string, errs map[string]error, want error) {
		t.Helper()
		for m, err := range errs {
			wantErr(t, m+" "+what, err, want)
		}
	}
	for _, writable := range []bool{false, true} {
		for _, end := range []func(*Tx) error{(*Tx).Commit, (*Tx).Rollback} {
			tx, err := db.Begin(writable)
			must(t, err)
			c := tx.Cursor()
			if !c.First() {
				t.Error("no first key")
			}
			must(t, end(tx))
			all("after the end", methods(tx), ErrTxClosed)
			if c.Valid() || c.Value() != nil || c.Next() || !errors.Is(c.Err(), ErrTxClosed) {
				t.Errorf("a cursor outlives its Tx: %v", c.Err())
			}
			wantErr(t, "Commit after the end", tx.Commit(), ErrTxClosed)
			must(t, tx.Rollback())
			for range tx.All(nil, nil) {
				t.Error("All yields after the end")
			}
			wantErr(t, "All after the end", tx.Err(), ErrTxClosed)
		}
	}
	tx, err := db.Begin(false)
	must(t, err)
	for m, err := range map[string]error{
		"Put": tx.Put(nil, nil), "PutTTL": tx.PutTTL(nil, nil, time.Hour), "Delete": tx.Delete(nil), "DeleteRange": tx.DeleteRange(nil, nil),
	} {
		wantErr(t, m+" in a read-only Tx", err, ErrReadOnly)
	}
	must(t, tx.Rollback())

	must(t, db.Update(func(tx *Tx) error {
		long := make([]byte, MaxKeyBytes+1)
		wantErr(t, "Put of a long key", tx.Put(long, nil), ErrKeyTooLarge)
		wantErr(t, "Delete of a long key", tx.Delete(long), nil)
		wantGet(t, tx.Get, string(long), "", false)
		if tx.Commit() == nil || tx.Rollback() == nil {
			t.Error("a Tx of Update may be ended by hand")
		}
		return tx.Put([]byte("b"), nil)
	}))
	model{"a": "1", "b": ""}.compare(t, db)
	must(t, db.Close())
	_, err = db.Begin(true)
	wantErr(t, "Begin after Close", err, ErrClosed)
	wantErr(t, "Update after Close", db.Update(func(*Tx) error { t.Error("fn ran"); return nil }), ErrClosed)
	wantErr(t, "DeleteRange after Close", db.DeleteRange(nil, nil), ErrClosed)
}

// nestedWrites makes every call that waits for other writers, inside an Update.
func nestedWrites(t *testing.T, db *DB) {
	t.Helper()
	ranges := db.NewBatch()
	ranges.DeleteRange(nil, nil)
	puts := db.NewBatch()
	puts.Put([]byte("x"), nil)
	_, begin := db.Begin(true)
	for m, err := range map[string]error{
		"Put": db.Put([]byte("x"), nil), "PutTTL": db.PutTTL([]byte("x"), nil, time.Hour), "Delete": db.Delete([]byte("x")),
		"DeleteRange": db.DeleteRange(nil, nil), "Write": db.Write(puts), "Write of a range": db.Write(ranges),
		"Update": db.Update(func(*Tx) error { t.Error("fn ran"); return nil }), "Begin(true)": begin,
	} {
		wantErr(t, m, err, ErrNested)
	}
}

// nestedRest makes every other call; these do not have to wait.
func nestedRest(t *testing.T, db *DB) {
	t.Helper()
	ctx := context.Background()
	must(t, db.Sync())
	must(t, db.Checkpoint(ctx))
	mustCheck(t, db)
	must(t, db.Compact(ctx))
	_, err := db.Backup(ctx, io.Discard)
	must(t, err)
	must(t, db.View(func(tx *Tx) error { _, err := tx.Has(nil); return err }))
	must(t, db.Scan(nil, nil, 10, func(k, v []byte) bool { return true }))
	if _, err := db.Has(nil); err != nil {
		t.Error(err)
	}
	db.Metrics()
}

// TestUpdateNested makes all calls inside an Update.
func TestUpdateNested(t *testing.T) {
	db, other := openMem(t), openMem(t)
	must(t, db.Update(func(tx *Tx) error {
		must(t, tx.Put([]byte("a"), []byte("1")))
		nestedWrites(t, db)
		nestedRest(t, db)
		// An Update of another store inside: each store knows its own.
		must(t, other.Update(func(tx *Tx) error {
			nestedWrites(t, db)
			wantErr(t, "Put of the inner store", other.Put(nil, nil), ErrNested)
			return tx.Put([]byte("b"), nil)
		}))
		// Another goroutine may use the Tx meanwhile; it still belongs to this one.
		var helper sync.WaitGroup
		helper.Go(func() { must(t, tx.Put([]byte("helped"), nil)) })
		helper.Wait()
		nestedWrites(t, db)
		// Another goroutine may wait, and this one must not wait for it.
		go func() { _ = db.Put([]byte("later"), nil) }()
		return other.Put([]byte("c"), nil)
	}))
	for i := 0; ; i++ {
		if ok, _ := db.Has([]byte("later")); ok {
			break
		}
		if i == 60_000 {
			t.Fatal("the waiting Put never came through")
		}
		time.Sleep(time.Millisecond)
	}
	model{"a": "1", "helped": "", "later": ""}.compare(t, db)
	model{"b": "", "c": ""}.compare(t, other)
}

// TestBeginNested: while a Tx of Begin(true) is open, calls that do not write work, also in its own
// goroutine. A writer waits, in whichever goroutine, because another goroutine may have the Tx by
// then.
func TestBeginNested(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	tx, err := db.Begin(true)
	must(t, err)
	nestedRest(t, db) // before it is used
	must(t, tx.Put([]byte("a"), nil))
	nestedRest(t, db)
	for range tx.All(nil, nil) {
		nestedRest(t, db)
	}
	handed := make(chan struct{})
	go func() {
		must(t, tx.Put([]byte("b"), nil))
		nestedRest(t, db)
		close(handed)
		for db.turn.queued.Load() == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		must(t, tx.Commit())
	}()
	<-handed
	must(t, db.Put([]byte("first owner"), nil)) // waits, because it handed the Tx on
	must(t, db.Put([]byte("after"), nil))
	model{"a": "", "b": "", "first owner": "", "after": ""}.compare(t, db)

	// Rolled back and closed, it belongs to no goroutine.
	tx, err = db.Begin(true)
	must(t, err)
	must(t, tx.Rollback())
	must(t, db.Put([]byte("after"), nil))
	tx, err = db.Begin(true)
	must(t, err)
	must(t, db.Close())
	wantErr(t, "Put after Close", db.Put(nil, nil), ErrClosed)
	wantErr(t, "Commit after Close", tx.Commit(), ErrClosed)
}

// TestPulledIterators: iter.Pull runs an iterator on a goroutine of its own. The pulling goroutine
// can still use the Tx, and a writer is not mistaken for a nested one.
func TestPulledIterators(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a", "b", "c")
	pull := func(tx *Tx) {
		next, stop := iter.Pull2(tx.All(nil, nil))
		defer stop()
		for i := 0; ; i++ {
			k, _, ok := next()
			if !ok {
				break
			}
			must(t, tx.Put(append([]byte("0 copies "), k...), k))
			if i == 10 {
				t.Fatal("the iterator does not end")
			}
		}
	}
	tx, err := db.Begin(true)
	must(t, err)
	pull(tx)
	waiting := putWaits(t, db, "d")
	must(t, tx.Commit())
	must(t, <-waiting)
	must(t, db.Update(func(tx *Tx) error {
		pull(tx)
		wantErr(t, "Put inside", db.Put(nil, nil), ErrNested)
		return nil
	}))
	must(t, db.Put([]byte("d"), nil))
}

// putWaits starts a goroutine that puts key while another has a writable Tx, and returns when it
// waits for that Tx to end.
func putWaits(t *testing.T, db *DB, key string) <-chan error {
	t.Helper()
	waiting := db.turn.queued.Load()
	done := make(chan error, 1)
	go func() { done <- db.Put([]byte(key), nil) }()
	for db.turn.queued.Load() == waiting {
		select {
		case err := <-done:
			t.Fatalf("Put did not wait: %v", err)
		case <-time.After(100 * time.Microsecond):
		}
	}
	return done
}

// TestBeginHandedOn: a goroutine begins a Tx and ends, and another one will end the Tx. Writers in
// between wait, even if they have reused the descriptor or the stack of the first goroutine.
func TestBeginHandedOn(t *testing.T) {
	db := openMem(t)
	var tx *Tx
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		tx, err = db.Begin(true)
		must(t, err)
		must(t, tx.Put([]byte("a"), nil))
	})
	wg.Wait()
	var waiting []<-chan error
	for range 50 {
		waiting = append(waiting, putWaits(t, db, "b"))
	}
	must(t, tx.Commit())
	for _, done := range waiting {
		must(t, <-done)
	}
	model{"a": "", "b": ""}.compare(t, db)
}

// TestTxOpenBesideTheRest: calls that do not write do not wait for an open writable Tx, in its own
// goroutine or in another, and do not change what it sees.
func TestTxOpenBesideTheRest(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	want := model{}
	for i := range 300 {
		k := fmt.Sprintf("%04d", i)
		want[k] = k
		fill(t, db, k)
	}
	putExpired(t, db, "expired", nil)
	must(t, db.Delete([]byte("0007")))
	delete(want, "0007")
	tx, err := db.Begin(true)
	must(t, err)
	value, err := tx.Get([]byte("0008"))
	must(t, err)
	must(t, tx.Put([]byte("0009"), []byte("changed")))
	rest := func() {
		before := db.Metrics()
		must(t, db.Checkpoint(context.Background()))
		must(t, db.Checkpoint(context.Background()))
		must(t, db.Sync())
		mustCheck(t, db)
		want.compare(t, db)
		if m := db.Metrics(); m.Checkpoints != before.Checkpoints+2 || m.Tombstones != 0 {
			t.Errorf("%d checkpoints, %d tombstones left", m.Checkpoints-before.Checkpoints, m.Tombstones)
		}
	}
	rest()
	done := make(chan struct{})
	go func() { defer close(done); rest() }()
	for {
		select {
		case <-done:
		default:
			ok, err := tx.Has([]byte("0010"))
			if !ok || err != nil {
				t.Error(ok, err)
			}
			continue
		}
		break
	}
	want["0009"] = "changed"
	must(t, sameAs(tx, want))
	if string(value) != "0008" {
		t.Errorf("a slice became %q", value)
	}
	if n := db.Metrics().Expired; n != 1 {
		t.Errorf("%d collected beside the Tx", n)
	}
	must(t, tx.Commit())
	want.compare(t, db)
	mustCheck(t, db)
	abandon(db)
	want.compare(t, openTest(t, path, nil))
}

// TestTxReadOnlyStore: a store that was opened read-only has no writable Tx.
func TestTxReadOnlyStore(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db, err := Open(path, nil)
	must(t, err)
	fill(t, db, "a")
	must(t, db.Close())
	db, err = Open(path, &Options{ReadOnly: true})
	must(t, err)
	_, err = db.Begin(true)
	wantErr(t, "Begin(true)", err, ErrReadOnly)
	wantErr(t, "Update", db.Update(func(*Tx) error { t.Error("fn ran"); return nil }), ErrReadOnly)
	wantErr(t, "PutTTL", db.PutTTL(nil, nil, time.Hour), ErrReadOnly)
	wantErr(t, "DeleteRange", db.DeleteRange(nil, nil), ErrReadOnly)
	model{"a": "a"}.compare(t, db)
	must(t, db.Close())
}

// TestUpdateNestedBesideOthers makes the nested call while Updates of another store wait for this
// one: those are not nested and must be let through.
func TestUpdateNestedBesideOthers(t *testing.T) {
	db, busy := openMem(t), openMem(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Not nested: it waits inside an Update of busy for the turn of db.
				must(t, busy.Update(func(*Tx) error { return db.Put([]byte("n"), nil) }))
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 20 {
		must(t, db.Update(func(tx *Tx) error {
			time.Sleep(2 * time.Millisecond)
			wantErr(t, "nested Put", db.Put(nil, nil), ErrNested)
			return nil
		}))
	}
	close(stop)
	wg.Wait()
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

func TestTxCloseDoesNotWait(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	must(t, db.Put([]byte("a"), []byte("1")))
	tx, err := db.Begin(true)
	must(t, err)
	kept, err := tx.Get([]byte("a"))
	must(t, err)
	must(t, tx.Put([]byte("a"), []byte("2")))
	c := tx.Cursor()
	if !c.First() {
		t.Fatal(c.Err())
	}
	waiting := make(chan error, 2)
	go func() { waiting <- db.Put([]byte("b"), nil) }()
	go func() {
		_, err := db.Begin(true)
		waiting <- err
	}()
	time.Sleep(5 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		must(t, err)
	case <-time.After(effort.Hang):
		t.Fatal("Close waits for an open writable Tx")
	}
	for range 2 {
		wantErr(t, "a writer that waited", <-waiting, ErrClosed)
	}
	_, err = tx.Get([]byte("a"))
	wantErr(t, "Get after Close", err, ErrClosed)
	wantErr(t, "Put after Close", tx.Put([]byte("c"), nil), ErrClosed)
	if c.Next(); !errors.Is(c.Err(), ErrClosed) {
		t.Errorf("cursor after Close: %v", c.Err())
	}
	if string(kept) != "1" {
		t.Errorf("slice after Close: %q", kept)
	}
	wantErr(t, "Commit after Close", tx.Commit(), ErrClosed)
	wantErr(t, "Get after Commit", tx.Put(nil, nil), ErrTxClosed)
	must(t, tx.Rollback())
	model{"a": "1"}.compare(t, openTest(t, path, nil))
}

// TestUpdateClosedInside closes the store in the middle of fn.
func TestUpdateClosedInside(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	err := db.Update(func(tx *Tx) error {
		must(t, tx.Put([]byte("a"), nil))
		must(t, db.Close())
		return nil
	})
	wantErr(t, "Update", err, ErrClosed)
	model{}.compare(t, openTest(t, path, nil))
}

// TestTxFull fills a store with transactions: one that does not fit returns ErrFull and changes
// nothing, and deletes give space back.
func TestTxFull(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, &Options{MaxBytes: 4 << 20, SlabBytes: 4096})
	m := model{}
	value := bytes.Repeat([]byte("v"), 900)
	put := func(tx *Tx, i int) error {
		for j := range 50 {
			if err := tx.Put(fmt.Appendf(nil, "%04d-%02d", i, j), value); err != nil {
				return err
			}
		}
		return nil
	}
	i, full := 0, false
	for ; !full && i < 1000; i++ {
		switch err := db.Update(func(tx *Tx) error { return put(tx, i) }); {
		case err == nil:
			for j := range 50 {
				m[fmt.Sprintf("%04d-%02d", i, j)] = string(value)
			}
		case errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed):
			full = true
		default:
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("never full")
	}
	m.compare(t, db)
	mustCheck(t, db)
	for j := range 10 {
		start, end := fmt.Appendf(nil, "%04d", j), fmt.Appendf(nil, "%04d", j+1)
		must(t, db.DeleteRange(start, end))
		for k := range 50 {
			delete(m, fmt.Sprintf("%04d-%02d", j, k))
		}
	}
	// No checkpoint was taken since: the commit takes one and tries again.
	must(t, db.Update(func(tx *Tx) error { return put(tx, 5) }))
	for j := range 50 {
		m[fmt.Sprintf("%04d-%02d", 5, j)] = string(value)
	}
	m.compare(t, db)
}

// failingFence is a device whose fences fail on request.
type failingFence struct {
	nvmap.Device
	fail atomic.Bool
}

var errFence = errors.New("lost the medium")

func (d *failingFence) Fence() error {
	if d.fail.Load() {
		return errFence
	}
	return d.Device.Fence()
}

// TestTxFailedFence: after a failed fence Update returns ErrFailed, readers continue with the
// previous state, and further Updates are refused.
func TestTxFailedFence(t *testing.T) {
	dev := &failingFence{Device: nvmap.NewMem(8 << 20)}
	db, err := OpenDevice(dev, nil)
	must(t, err)
	must(t, db.Put([]byte("a"), []byte("1")))
	dev.fail.Store(true)
	err = db.Update(func(tx *Tx) error { return tx.Put([]byte("a"), []byte("2")) })
	wantErr(t, "Update over a failing fence", err, ErrFailed)
	wantErr(t, "its cause", err, errFence)
	wantGet(t, db.Get, "a", "1", true)
	err = db.Update(func(*Tx) error { t.Error("fn ran"); return nil })
	wantErr(t, "Update afterwards", err, ErrFailed)
	must(t, db.Close())
}

// TestTxCloseDuringTraffic closes a store while goroutines use it in every way: each call works or
// returns ErrClosed, and all commits are there.
func TestTxCloseDuringTraffic(t *testing.T) {
	for round := range 5 {
		path := filepath.Join(testDir(t), "s")
		db, err := Open(path, nil)
		must(t, err)
		var wg sync.WaitGroup
		var committed [4]int
		for w := range committed {
			wg.Go(func() {
				for i := 1; ; i++ {
					err := db.Update(func(tx *Tx) error {
						for k, v := range tx.All(nil, nil) {
							if !bytes.HasPrefix(v, k[:1]) {
								t.Errorf("%q has %q", k, v)
							}
						}
						return errors.Join(tx.Err(), tx.Put(fmt.Appendf(nil, "%d/%05d", w, i), fmt.Append(nil, w)))
					})
					if err != nil {
						wantErr(t, "Update", err, ErrClosed)
						return
					}
					committed[w] = i
					if err := db.Checkpoint(context.Background()); err != nil {
						wantErr(t, "Checkpoint", err, ErrClosed)
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(5+10*round) * time.Millisecond)
		must(t, db.Close())
		wg.Wait()
		db = openTest(t, path, nil)
		for w, n := range committed {
			if ok, err := db.Has(fmt.Appendf(nil, "%d/%05d", w, n)); n > 0 && !ok {
				t.Errorf("a committed key is lost: %v", err)
			}
		}
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
