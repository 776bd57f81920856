package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

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
