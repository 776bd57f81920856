package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/kv/internal/backup"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/locks"
)

// TestTxOfManyGoroutines: many goroutines read one read-only Tx, each in its own way, while the
// store is written to. All see its first state until Rollback, and then get ErrTxClosed.
func TestTxOfManyGoroutines(t *testing.T) {
	for _, o := range []*Options{nil, {PoisonSlices: true}} {
		db := openTest(t, filepath.Join(t.TempDir(), "store"), o)
		const keys = 200
		fill := func(round int) {
			b := db.NewBatch()
			for i := range keys {
				b.Put(fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "%04d %d", i, round))
			}
			if err := db.Write(b); err != nil {
				t.Error(err)
			}
		}
		fill(0)
		tx, err := db.Begin(false)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var reads atomic.Int64
		var stop atomic.Bool
		for g := range 6 {
			wg.Go(func() {
				for !stop.Load() {
					if err := readAll(tx, g%3, keys); err != nil {
						if !errors.Is(err, ErrTxClosed) {
							t.Error(err)
						}
						return
					}
					reads.Add(1)
				}
			})
		}
		for round := 1; round < 20 || reads.Load() < 20; round++ {
			fill(round)
		}
		if o != nil { // their slices are overwritten when the Tx ends
			stop.Store(true)
			wg.Wait()
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		fill(1)
		wg.Wait()
	}
}

// readAll reads the keys of TestTxOfManyGoroutines: by Get, a cursor or an iterator.
func readAll(tx *Tx, how, keys int) error {
	n := 0
	see := func(k, v []byte) error {
		if !bytes.Equal(v, append(bytes.Clone(k), " 0"...)) && !tx.over() {
			return fmt.Errorf("key %s has %s", k, v)
		}
		n++
		return nil
	}
	var err error
	switch how {
	case 0:
		for i := range keys {
			k := fmt.Appendf(nil, "%04d", i)
			v, err := tx.Get(k)
			if err == nil {
				err = see(k, v)
			}
			if err != nil {
				return err
			}
		}
	case 1:
		c := tx.Cursor()
		for ok := c.First(); ok && err == nil; ok = c.Next() {
			k, v := c.Key(), c.Value()
			if k == nil {
				return ErrTxClosed
			}
			err = see(k, v)
		}
		err = errors.Join(err, c.Close())
	case 2:
		for k, v := range tx.All(nil, nil) {
			if err = see(k, v); err != nil {
				break
			}
		}
		err = errors.Join(err, tx.Err())
	}
	if err == nil && n != keys {
		err = fmt.Errorf("%d keys, want %d", n, keys)
		if tx.over() {
			err = ErrTxClosed
		}
	}
	return err
}

// TestI20_RollbackWaitsForCalls: Rollback returns when no call of the Tx is under way, and later
// calls find that the Tx has ended.
func TestI20_RollbackWaitsForCalls(t *testing.T) {
	db := openMem(t)
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tx.enter() // like a method in another goroutine
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- tx.Rollback() }()
	for !tx.over() {
		btree.Pause(0)
	}
	if _, err := tx.Get(nil); !errors.Is(err, ErrTxClosed) {
		t.Errorf("a call after Rollback began: %v", err)
	}
	locks.Apart(func() {
		if db.Metrics().Snapshots != 1 {
			t.Error("the snapshot is gone while a call looks at it")
		}
	})
	select {
	case <-ended:
		t.Error("Rollback did not wait")
	default:
	}
	tx.leave(s)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := db.Metrics().Snapshots; n != 0 {
		t.Errorf("%d snapshots", n)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

// TestBackupSize: the size of a backup is known before it is written, also where payloads fill
// chunks, with records in runs, with expiries, and without records that have expired.
func TestBackupSize(t *testing.T) {
	at := time.Unix(1e9, 0)
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 64 << 20, Clock: func() time.Time { return at }})
	compare := func(what string) {
		t.Helper()
		must(t, db.View(func(tx *Tx) error {
			size, err := tx.BackupSize(context.Background())
			must(t, err)
			n, err := tx.Backup(context.Background(), io.Discard)
			if n != size {
				t.Errorf("%s: BackupSize is %d, %d were written", what, size, n)
			}
			return err
		}))
	}
	compare("nothing")
	const record = 7 + 1 // header and key
	for _, more := range []int{-1, 0, 1} {
		must(t, db.Put([]byte("a"), make([]byte, backup.ChunkBytes-record+more)))
		compare(fmt.Sprintf("a chunk and %d bytes", more))
	}
	must(t, db.Put([]byte("b"), make([]byte, 3<<20)))
	must(t, db.PutTTL([]byte("c"), []byte("1"), time.Hour))
	must(t, db.PutTTL([]byte("d"), []byte("1"), time.Minute))
	compare("expiries")
	at = at.Add(time.Minute)
	compare("after one has expired")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, db.View(func(tx *Tx) error {
		_, err := tx.BackupSize(cancelled)
		wantErr(t, "cancelled", err, context.Canceled)
		return nil
	}))
}

// TestTxBackup: a backup of a Tx has the state that the Tx sees, whatever was written since.
func TestTxBackup(t *testing.T) {
	db := openMem(t)
	must(t, db.Put([]byte("a"), []byte("1")))
	tx, err := db.Begin(false)
	must(t, err)
	must(t, db.Put([]byte("a"), []byte("2")))
	must(t, db.Put([]byte("b"), []byte("2")))
	var out bytes.Buffer
	size, err := tx.BackupSize(context.Background())
	must(t, err)
	n, err := tx.Backup(context.Background(), &out)
	must(t, err)
	if n != size {
		t.Errorf("BackupSize is %d, %d were written", size, n)
	}
	if n != int64(out.Len()) {
		t.Errorf("%d bytes, %d were written", n, out.Len())
	}
	must(t, tx.Rollback())
	_, err = tx.Backup(context.Background(), &out)
	wantErr(t, "a backup of a Tx that has ended", err, ErrTxClosed)
	_, err = tx.BackupSize(context.Background())
	wantErr(t, "the size of a backup of a Tx that has ended", err, ErrTxClosed)
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Backup(context.Background(), &out)
		wantErr(t, "a backup of a writable Tx", err, errBackupOfWriter)
		_, err = tx.BackupSize(context.Background())
		wantErr(t, "the size of a backup of a writable Tx", err, errBackupOfWriter)
		return nil
	}))
	path := filepath.Join(t.TempDir(), "copy")
	must(t, Restore(context.Background(), path, &out, nil))
	to := openTest(t, path, nil)
	v, err := to.Get([]byte("a"))
	if has, _ := to.Has([]byte("b")); string(v) != "1" || err != nil || has {
		t.Errorf("a is %q, %v; b is there: %t", v, err, has)
	}
}
