package kv

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"nvkv/internal/effort"
)

// scribble stores into every slice that it gets, and returns how many of the stores succeeded.
func scribble(slices ...[]byte) (through int) {
	for _, b := range slices {
		if len(b) > 0 && !faultsAt(&b[len(b)/2]) {
			through++
		}
	}
	return through
}

func faultsAt(b *byte) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { faulted = recover() != nil }()
	*b ^= 0xff
	return false
}

// readerSlices returns slices of every kind that a reader of db gets: small values, values in runs,
// keys, from all methods that return slices.
func readerSlices(t *testing.T, tx *Tx, keys ...string) (out [][]byte) {
	t.Helper()
	for _, k := range keys {
		v, err := tx.Get([]byte(k))
		must(t, err)
		out = append(out, v)
	}
	for k, v := range tx.All(nil, nil) {
		out = append(out, k, v)
	}
	for k, v := range tx.Backward(nil, nil) {
		out = append(out, k, v)
	}
	c := tx.Cursor()
	defer c.Close()
	for ok := c.First(); ok; ok = c.Next() {
		out = append(out, c.Key(), c.Value())
	}
	must(t, errors.Join(c.Err(), tx.Err()))
	return out
}

// A stray store through any slice of a reader faults and changes nothing, on every kind of device
// with a mapping, before and after a checkpoint. With WriteProtect false it succeeds.
func TestWriteProtect(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "nvkv")
	if err != nil {
		effort.NotTested(t, "no tmpfs: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	on, off := true, false
	for _, c := range []struct {
		name    string
		dir     string
		protect *bool
	}{
		{"shm", shm, nil}, {"shm on", shm, &on}, {"shm off", shm, &off},
		{"file", t.TempDir(), nil}, {"file off", t.TempDir(), &off},
	} {
		t.Run(c.name, func(t *testing.T) {
			values := map[string][]byte{"small": []byte("value"), "run": bytes.Repeat([]byte("r"), 40_000), "middle": bytes.Repeat([]byte("m"), 3000)}
			opts := &Options{WriteProtect: c.protect, MaxBytes: 64 << 20}
			path := filepath.Join(c.dir, strings.ReplaceAll(c.name, " ", "-"))
			db, err := Open(path, opts)
			must(t, err)
			defer func() { db.Close() }()
			for k, v := range values {
				must(t, db.Put([]byte(k), v))
			}
			for round := range 2 {
				must(t, db.View(func(tx *Tx) error {
					slices := readerSlices(t, tx, "small", "run", "middle")
					through := scribble(slices...)
					if c.protect == &off {
						if through != len(slices) {
							t.Errorf("%d of %d stores went through, with protection off", through, len(slices))
						}
						scribble(slices...) // the second time restores the bytes
						return nil
					}
					if through != 0 {
						t.Errorf("%d of %d stray stores went through", through, len(slices))
					}
					return nil
				}))
				for k, want := range values {
					if got, err := db.Get([]byte(k)); err != nil || !bytes.Equal(got, want) {
						t.Errorf("round %d, %s: %d bytes, %v", round, k, len(got), err)
					}
				}
				must(t, db.Close())
				db, err = Open(path, opts)
				must(t, err)
			}
		})
	}
}

// Requesting protection fails where there is none. Requesting no protection does not.
func TestWriteProtectMem(t *testing.T) {
	on, off := true, false
	if _, err := Open("", &Options{Device: "mem", WriteProtect: &on, MaxBytes: 16 << 20}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("protection on mem: %v", err)
	}
	db, err := Open("", &Options{Device: "mem", WriteProtect: &off, MaxBytes: 16 << 20})
	must(t, err)
	must(t, db.Close())
}

// A store that is opened read-only is protected whatever the option says.
func TestWriteProtectReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	db, err := Open(path, &Options{MaxBytes: 16 << 20})
	must(t, err)
	must(t, db.Put([]byte("k"), []byte("v")))
	must(t, db.Close())
	off := false
	db, err = Open(path, &Options{ReadOnly: true, WriteProtect: &off})
	must(t, err)
	defer db.Close()
	must(t, db.View(func(tx *Tx) error {
		if n := scribble(readerSlices(t, tx, "k")...); n != 0 {
			t.Errorf("%d stray stores went through", n)
		}
		return nil
	}))
}
