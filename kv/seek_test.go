package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"nvkv/nvmap"
)

// TestSeekAndScanAsCursor: Tx.Seek, Tx.SeekLT and Tx.Scan find what a cursor finds: in a read-only
// Tx, beside changes and deleted ranges of a writable one, with expired records and records in runs,
// on mapped devices and others.
func TestSeekAndScanAsCursor(t *testing.T) {
	for name, o := range map[string]*Options{"mapped": {Device: "mem"}, "unmapped": nil, "poison": {Device: "mem", PoisonSlices: true}} {
		t.Run(name, func(t *testing.T) {
			var db *DB
			if o == nil {
				db = openUnmapped(t)
			} else {
				db = openTest(t, "", o)
			}
			fillForSeek(t, db)
			must(t, db.View(func(tx *Tx) error { seekAsCursor(t, tx); return nil }))
			must(t, db.Update(func(tx *Tx) error {
				for i := range 50 {
					must(t, tx.Put(fmt.Appendf(nil, "%03d+", 11*i), []byte("of the Tx")))
					must(t, tx.Delete(fmt.Appendf(nil, "%03d", 13*i)))
				}
				must(t, tx.DeleteRange([]byte("200"), []byte("300")))
				must(t, tx.DeleteRange([]byte("490"), nil))
				seekAsCursor(t, tx)
				return nil
			}))
		})
	}
}

// openUnmapped opens a store in memory that the engine reads as it reads a file.
func openUnmapped(t *testing.T) *DB {
	t.Helper()
	db, err := OpenDevice(unmappedDevice{Device: nvmap.NewMem(64 << 20)}, nil)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func fillForSeek(t *testing.T, db *DB) {
	t.Helper()
	for i := range 500 {
		key := fmt.Appendf(nil, "%03d", i)
		switch i % 50 {
		case 7:
			must(t, db.Put(key, make([]byte, 40_000)))
		case 8:
			must(t, db.PutUntil(key, key, time.Now().Add(-time.Hour)))
		default:
			must(t, db.Put(key, key))
		}
	}
}

// seekAsCursor compares the methods of a Tx with those of a cursor.
func seekAsCursor(t *testing.T, tx *Tx) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	same := func(what string, key []byte, ok bool, c *Cursor, k, v []byte, err error) {
		t.Helper()
		switch {
		case ok && (err != nil || !bytes.Equal(k, c.Key()) || !bytes.Equal(v, c.Value())):
			t.Fatalf("%s %q: %q, %v; a cursor finds %q", what, key, k, err, c.Key())
		case !ok && !errors.Is(err, ErrNotFound):
			t.Fatalf("%s %q: %q, %v; a cursor finds nothing", what, key, k, err)
		}
	}
	for range 300 {
		key := fmt.Appendf(nil, "%0*d", r.IntN(4), r.IntN(1100))
		c := tx.Cursor()
		ok := c.Seek(key)
		k, v, err := tx.Seek(key)
		same("Seek", key, ok, c, k, v, err)
		ok = c.SeekLT(key)
		k, v, err = tx.SeekLT(key)
		same("SeekLT", key, ok, c, k, v, err)
		must(t, c.Close())

		n := r.IntN(40) - 1
		end := fmt.Appendf(nil, "%03d", r.IntN(1100))
		if n%5 == 0 {
			end = nil
		}
		var want, got []string
		for k, v := range tx.All(key, end) {
			if len(want) == n {
				break
			}
			want = append(want, fmt.Sprintf("%s %x", k, v))
		}
		must(t, tx.Scan(key, end, n, func(k, v []byte) bool {
			got = append(got, fmt.Sprintf("%s %x", k, v))
			return true
		}))
		if !slices.Equal(got, want) {
			t.Fatalf("Scan of %q to %q, %d: %.60q, want %.60q", key, end, n, got, want)
		}
	}
	if _, _, err := tx.SeekLT(nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("below the empty key: %v", err)
	}
	met := 0
	must(t, tx.Scan(nil, nil, -1, func(_, _ []byte) bool { met++; return met < 3 }))
	if met != 3 {
		t.Fatalf("Scan went on for %d records", met)
	}
}

// TestReadsOfTxAllocateNothing: on a mapped device neither Get nor a single seek in a read-only Tx
// allocates.
func TestReadsOfTxAllocateNothing(t *testing.T) {
	skipInRace(t)
	db := openTest(t, "", &Options{Device: "mem"})
	must(t, db.Put([]byte("k"), []byte("v")))
	must(t, db.View(func(tx *Tx) error {
		for what, fn := range map[string]func() error{
			"Get":    func() error { _, err := tx.Get([]byte("k")); return err },
			"Has":    func() error { _, err := tx.Has([]byte("k")); return err },
			"Seek":   func() error { _, _, err := tx.Seek([]byte("j")); return err },
			"SeekLT": func() error { _, _, err := tx.SeekLT([]byte("l")); return err },
		} {
			if n := testing.AllocsPerRun(100, func() { must(t, fn()) }); n != 0 {
				t.Errorf("%s allocates %v times", what, n)
			}
		}
		return nil
	}))
}

// TestSeekAfterTheEnd: the methods of a Tx that has ended say so.
func TestSeekAfterTheEnd(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem"})
	must(t, db.Put([]byte("k"), []byte("v")))
	for _, writable := range []bool{false, true} {
		tx, err := db.Begin(writable)
		must(t, err)
		must(t, tx.Rollback())
		_, _, seek := tx.Seek(nil)
		_, _, below := tx.SeekLT([]byte("z"))
		scan := tx.Scan(nil, nil, -1, func(_, _ []byte) bool { return true })
		for _, err := range []error{seek, below, scan} {
			if !errors.Is(err, ErrTxClosed) {
				t.Errorf("writable %v: %v", writable, err)
			}
		}
		ended, err := db.Begin(writable)
		must(t, err)
		err = ended.Scan(nil, nil, -1, func(_, _ []byte) bool { must(t, ended.Rollback()); return true })
		if !errors.Is(err, ErrTxClosed) {
			t.Errorf("writable %v, ended by its callback: %v", writable, err)
		}
	}
}
