package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

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
	_, absent := db.PutIfAbsent([]byte("x"), nil)
	_, swap := db.CompareAndSwap([]byte("x"), nil, nil)
	_, remove := db.CompareAndDelete([]byte("x"), nil)
	for m, err := range map[string]error{
		"Put": db.Put([]byte("x"), nil), "PutTTL": db.PutTTL([]byte("x"), nil, time.Hour), "Delete": db.Delete([]byte("x")),
		"DeleteRange": db.DeleteRange(nil, nil), "Write": db.Write(puts), "Write of a range": db.Write(ranges),
		"Update": db.Update(func(*Tx) error { t.Error("fn ran"); return nil }), "Begin(true)": begin,
		"PutIfAbsent": absent, "CompareAndSwap": swap, "CompareAndDelete": remove,
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
