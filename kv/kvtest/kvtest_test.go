package kvtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"nvkv/kv"
	"nvkv/kv/kvtest"
)

// recorder is a testing.TB that keeps failures and cleanups to itself.
type recorder struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

type fatal string

func (r *recorder) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }
func (r *recorder) Fatal(args ...any)                 { panic(fatal(fmt.Sprint(args...))) }

// end runs the cleanups and returns the failures.
func (r *recorder) end() string {
	for _, f := range r.cleanups {
		f()
	}
	return strings.Join(r.failures, "\n")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNew(t *testing.T) {
	r := &recorder{TB: t}
	db := kvtest.New(r, nil)
	must(t, db.Put([]byte("k"), []byte("v")))
	must(t, db.View(func(tx *kv.Tx) error {
		if open := db.OpenTx(); len(open) != 1 || open[0].Writable || !strings.Contains(open[0].Where, "kvtest_test.go:") {
			t.Errorf("open: %v", open)
		}
		v, err := tx.Get([]byte("k"))
		if string(v) != "v" {
			t.Errorf("%q", v)
		}
		return err
	}))
	must(t, db.Update(func(tx *kv.Tx) error { return tx.Delete([]byte("k")) }))
	if got := r.end(); got != "" {
		t.Error(got)
	}
	if err := db.Put(nil, nil); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	// A test may close the store itself.
	r = &recorder{TB: t}
	must(t, kvtest.New(r, &kv.Options{Device: "mem", MaxBytes: 16 << 20}).Close())
	if got := r.end(); got != "" {
		t.Error(got)
	}
}

// Transactions that nobody ends are named by the lines that began them.
func TestLeftOpen(t *testing.T) {
	for _, closed := range []bool{false, true} {
		r := &recorder{TB: t}
		db := kvtest.New(r, nil)
		_, _, line, _ := runtime.Caller(0)
		reader, err := db.Begin(false)
		must(t, err)
		writer, err := db.Begin(true)
		must(t, err)
		if closed {
			must(t, db.Close())
		}
		got := r.end()
		for _, want := range []string{
			fmt.Sprintf("a read-only transaction that began at %s", place(line+1)),
			fmt.Sprintf("a writable transaction that began at %s", place(line+3)),
		} {
			if !strings.Contains(got, want) {
				t.Errorf("closed %v: %q lacks %q", closed, got, want)
			}
		}
		must(t, errors.Join(reader.Rollback(), writer.Rollback()))
		if open := db.OpenTx(); open != nil {
			t.Errorf("open after the end: %v", open)
		}
	}
}

func place(line int) string {
	_, file, _, _ := runtime.Caller(0)
	return fmt.Sprintf("%s:%d ", file, line)
}

// A slice that is used too long has the pattern.
func TestSlicesArePoisoned(t *testing.T) {
	db := kvtest.New(t, nil)
	must(t, db.Put([]byte("k"), []byte("value")))
	var kept []byte
	must(t, db.View(func(tx *kv.Tx) (err error) {
		kept, err = tx.Get([]byte("k"))
		return err
	}))
	if !bytes.Equal(kept, bytes.Repeat([]byte{0xdb}, 5)) {
		t.Errorf("%q", kept)
	}
}

func TestRefusedOptions(t *testing.T) {
	for _, o := range []*kv.Options{{Device: "file"}, {ReadOnly: true}, {CacheBytes: 1}} {
		func() {
			defer func() {
				if why, ok := recover().(fatal); !ok || !strings.HasPrefix(string(why), "kvtest: ") {
					t.Errorf("%+v: %v", *o, why)
				}
			}()
			kvtest.New(&recorder{TB: t}, o)
		}()
	}
}

// A store costs what it holds, also under the race detector, and may grow to what was asked for.
func TestCost(t *testing.T) {
	const stores, each = 20, 4 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var dbs []*kv.DB
	for range stores {
		db := kvtest.New(t, &kv.Options{MaxBytes: 8 << 30})
		must(t, db.Put([]byte("k"), make([]byte, 100)))
		dbs = append(dbs, db)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / stores; n > each {
		t.Errorf("a store takes %d bytes of heap", n)
	}
	if runtime.GOOS == "linux" {
		if got := dbs[0].Info().MaxBytes; got < 8<<30 {
			t.Errorf("a store may grow to %d bytes", got)
		}
	}
	runtime.KeepAlive(dbs)
}

// More than the heap bound of a race build fits.
func TestHoldsMuch(t *testing.T) {
	if testing.Short() {
		t.Skip("300 MiB")
	}
	db := kvtest.New(t, nil)
	value := make([]byte, 20<<20)
	for i := range 15 {
		must(t, db.Put(fmt.Append(nil, i), value))
	}
}

// Readers, writers, scans and checkpoints at once: the race detector has nothing to report, although
// it does not see the whole memory of such a store.
func TestConcurrent(t *testing.T) {
	db := kvtest.New(t, &kv.Options{CheckpointBytes: 64 << 10, SlabBytes: 4096})
	key := func(i int) []byte { return fmt.Appendf(nil, "key%03d", i%300) }
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 400 {
				switch {
				case i%4 == w:
					must(t, db.Put(key(i*7+w), bytes.Repeat([]byte{byte(i)}, 1+i*13%6000)))
				case i%50 == 0:
					must(t, db.Update(func(tx *kv.Tx) error { return tx.Delete(key(i)) }))
				case i%10 == 0:
					must(t, db.View(func(tx *kv.Tx) error {
						for range tx.All(nil, nil) {
						}
						return tx.Err()
					}))
				default:
					if _, err := db.Get(key(i)); !errors.Is(err, kv.ErrNotFound) {
						must(t, err)
					}
				}
			}
		})
	}
	wg.Wait()
}
