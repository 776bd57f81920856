package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// watch ends the program with all stacks if the watched code hangs. It judges no speed: nothing
// here takes a second.
func watch(t *testing.T, what string) {
	timer := time.AfterFunc(4*time.Minute, func() {
		fmt.Fprintf(os.Stderr, "%s: %s hangs\n", t.Name(), what)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		os.Exit(2)
	})
	t.Cleanup(func() { timer.Stop() })
}

// logged calls do for every message.
type logged struct {
	slog.Handler
	do func(message string)
}

func (h logged) Enabled(context.Context, slog.Level) bool { return true }

func (h logged) Handle(_ context.Context, r slog.Record) error {
	h.do(r.Message)
	return nil
}

// spot is a place in which every call is made: enter calls do there.
type spot struct {
	name  string
	enter func(t *testing.T, db *DB, do func())
	// The results of writers and of Close there.
	writes, closes error
	waits          bool // a writer waits: the nesting cannot be detected
}

// hooks are the callbacks with which these tests open a store.
type hooks struct {
	mu       sync.Mutex
	log      func(message string)
	progress func(Progress)
}

func (h *hooks) logged(m string) {
	h.mu.Lock()
	do := h.log
	h.mu.Unlock()
	if do != nil {
		do(m)
	}
}

// once returns a function that calls fn the first time only.
func once(fn func()) func() { var o sync.Once; return func() { o.Do(fn) } }

func openHooked(t *testing.T) (*DB, *hooks) {
	h := &hooks{}
	db := openTest(t, "", &Options{
		Device: "mem", MaxBytes: 32 << 20, Durability: Relaxed, Logger: slog.New(logged{slog.DiscardHandler, h.logged}),
		Progress: func(p Progress) {
			if h.progress != nil {
				h.progress(p)
			}
		},
	})
	b := db.NewBatch()
	for i := range 500 {
		b.Put(fmt.Appendf(nil, "%04d", i), make([]byte, 100))
	}
	must(t, db.Write(b))
	putExpired(t, db, "expired", nil)
	return db, h
}

// places returns the places, in the order of the tests.
func places(h *hooks) []spot {
	begun := func(writable bool, loop func(t *testing.T, tx *Tx, do func())) func(*testing.T, *DB, func()) {
		return func(t *testing.T, db *DB, do func()) {
			tx, err := db.Begin(writable)
			must(t, err)
			defer tx.Rollback()
			loop(t, tx, do)
		}
	}
	view := func(loop func(t *testing.T, tx *Tx, do func())) func(*testing.T, *DB, func()) {
		return func(t *testing.T, db *DB, do func()) {
			_ = db.View(func(tx *Tx) error { loop(t, tx, do); return nil })
		}
	}
	update := func(loop func(t *testing.T, tx *Tx, do func())) func(*testing.T, *DB, func()) {
		return func(t *testing.T, db *DB, do func()) {
			_ = db.Update(func(tx *Tx) error { loop(t, tx, do); return nil })
		}
	}
	plain := func(_ *testing.T, _ *Tx, do func()) { do() }
	all := func(_ *testing.T, tx *Tx, do func()) {
		for range tx.All(nil, nil) {
			do()
			break
		}
	}
	backward := func(_ *testing.T, tx *Tx, do func()) {
		for range tx.Backward(nil, nil) {
			do()
			break
		}
	}
	cursor := func(t *testing.T, tx *Tx, do func()) {
		c := tx.Cursor()
		if !c.First() {
			t.Error("no first key")
		}
		do()
		c.Next()
		_ = c.Close()
	}
	pulled := func(_ *testing.T, tx *Tx, do func()) {
		next, stop := iter.Pull2(tx.All(nil, nil))
		defer stop()
		next()
		do()
		next()
	}
	ps := []spot{
		{name: "View", enter: view(plain)},
		{name: "All in View", enter: view(all)},
		{name: "Backward in View", enter: view(backward)},
		{name: "a cursor in View", enter: view(cursor)},
		{name: "beside Pull in View", enter: view(pulled)},
		{name: "Begin(false)", enter: begun(false, all)},
		{name: "Update", enter: update(plain), writes: ErrNested},
		{name: "All in Update", enter: update(all), writes: ErrNested},
		{name: "Backward in Update", enter: update(backward), writes: ErrNested},
		{name: "a cursor in Update", enter: update(cursor), writes: ErrNested},
		{name: "beside Pull in Update", enter: update(pulled), writes: ErrNested},
		{name: "Begin(true)", enter: begun(true, plain), waits: true},
		{name: "All of Begin(true)", enter: begun(true, all), waits: true},
		{name: "beside Pull of Begin(true)", enter: begun(true, pulled), waits: true},
		{name: "a short Scan", enter: func(t *testing.T, db *DB, do func()) {
			must(t, db.Scan(nil, nil, 10, func(_, _ []byte) bool { do(); return false }))
		}},
		{name: "a long Scan", enter: func(t *testing.T, db *DB, do func()) {
			_ = db.Scan(nil, nil, -1, func(_, _ []byte) bool { do(); return false })
		}},
		{name: "Batch.Replay", enter: func(_ *testing.T, db *DB, do func()) {
			b := db.NewBatch()
			b.Put([]byte("replayed"), nil)
			b.Replay(func(_, _ []byte, _ time.Duration) { do() }, nil, nil)
		}},
		{name: "Check", closes: ErrNested, enter: func(_ *testing.T, db *DB, do func()) {
			do = once(do)
			db.recovered.damaged = []CorruptError{{}} // something to report
			_ = db.Check(context.Background(), func(CheckIssue) { do() })
		}},
		{name: "Check's second part", closes: ErrNested, enter: func(t *testing.T, db *DB, do func()) {
			do = once(do)
			db.turn.hold() // a leak, which only the second part finds
			class, _ := db.r.ClassFor(100)
			o, err := db.r.AllocRecord(class, false)
			must(t, err)
			db.turn.give()
			_ = db.Check(context.Background(), func(CheckIssue) { do() })
			db.turn.hold()
			defer db.turn.give()
			if !db.closed.Load() {
				db.r.Free(o)
			}
		}},
		{name: "the writer of a Backup", enter: func(_ *testing.T, db *DB, do func()) {
			do = once(do)
			_, _ = db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) { do(); return len(p), nil }))
		}},
		{name: "Progress of a Backup", enter: func(_ *testing.T, db *DB, do func()) {
			h.progress = func(Progress) { h.progress = nil; do() }
			_, _ = db.Backup(context.Background(), io.Discard)
		}},
		{name: "Progress of Compact", closes: ErrNested, enter: func(_ *testing.T, db *DB, do func()) {
			h.progress = func(Progress) { h.progress = nil; do() }
			_ = db.Compact(context.Background())
		}},
	}
	logs := func(trigger func(t *testing.T, db *DB)) func(*testing.T, *DB, func()) {
		return func(t *testing.T, db *DB, do func()) {
			done := make(chan struct{})
			do1 := once(func() { do(); close(done) })
			h.mu.Lock()
			h.log = func(string) { do1() }
			h.mu.Unlock()
			trigger(t, db)
			<-done
			h.mu.Lock()
			h.log = nil
			h.mu.Unlock()
		}
	}
	return append(ps,
		spot{name: "Logger in a checkpoint", closes: ErrNested, enter: logs(func(t *testing.T, db *DB) { must(t, db.Checkpoint(context.Background())) })},
		spot{name: "Logger of the background", closes: ErrNested, enter: logs(func(_ *testing.T, db *DB) { db.wakeCheckpointer() })},
		spot{name: "Logger in a checkpoint in Update", closes: ErrNested, writes: ErrNested, enter: logs(func(t *testing.T, db *DB) {
			_ = db.Update(func(*Tx) error { return db.Checkpoint(context.Background()) })
		})},
	)
}

// reads are the calls that wait for no writer; writers are those that do.
var reads = map[string]func(db *DB) error{
	"Get":          func(db *DB) error { _, err := db.Get([]byte("0001")); return err },
	"GetAppend":    func(db *DB) error { _, err := db.GetAppend(nil, []byte("0001")); return err },
	"Expiry":       func(db *DB) error { return second(db.Expiry([]byte("0001"))) },
	"Has":          func(db *DB) error { _, err := db.Has([]byte("0001")); return err },
	"Scan":         func(db *DB) error { return db.Scan(nil, nil, 5, func(_, _ []byte) bool { return true }) },
	"long Scan":    func(db *DB) error { return db.Scan(nil, nil, -1, func(_, _ []byte) bool { return true }) },
	"View":         func(db *DB) error { return db.View(func(tx *Tx) error { _, err := tx.Has(nil); return err }) },
	"Begin(false)": func(db *DB) error { tx, err := db.Begin(false); must2(err); return tx.Rollback() },
	"Checkpoint":   func(db *DB) error { return db.Checkpoint(context.Background()) },
	"Sync":         (*DB).Sync,
	"Compact":      func(db *DB) error { return db.Compact(context.Background()) },
	"Check":        func(db *DB) error { return db.Check(context.Background(), func(CheckIssue) {}) },
	"Backup":       func(db *DB) error { _, err := db.Backup(context.Background(), io.Discard); return err },
	"Metrics":      func(db *DB) error { db.Metrics(); return nil },
	"Info":         func(db *DB) error { db.Info(); _ = db.Path(); return nil },
	"empty Write":  func(db *DB) error { return errors.Join(db.Write(nil), db.Write(db.NewBatch())) },
}

var writers = map[string]func(db *DB) error{
	"Put":         func(db *DB) error { return db.Put([]byte("put"), nil) },
	"PutUntil":    func(db *DB) error { return db.PutUntil([]byte("put"), nil, time.Now().Add(time.Hour)) },
	"PutTTL":      func(db *DB) error { return db.PutTTL([]byte("put"), nil, time.Hour) },
	"Delete":      func(db *DB) error { return db.Delete([]byte("put")) },
	"DeleteRange": func(db *DB) error { return db.DeleteRange([]byte("put"), []byte("puu")) },
	"Write": func(db *DB) error {
		b := db.NewBatch()
		b.Put([]byte("put"), nil)
		return db.Write(b)
	},
	"Write of a range": func(db *DB) error {
		b := db.NewBatch()
		b.DeleteRange([]byte("put"), []byte("puu"))
		return db.Write(b)
	},
	"Update": func(db *DB) error { return db.Update(func(tx *Tx) error { return tx.Put([]byte("put"), nil) }) },
	"Begin(true)": func(db *DB) error {
		tx, err := db.Begin(true)
		if err != nil {
			return err
		}
		return tx.Commit()
	},
}

func second(_ time.Time, err error) error { return err }

func must2(err error) {
	if err != nil {
		panic(err)
	}
}

// TestEverythingInsideEverything makes every call of a DB in every place in which a program's own
// code runs inside a call. Each call ends, with its usual result or with ErrNested.
func TestEverythingInsideEverything(t *testing.T) {
	db, h := openHooked(t)
	for _, p := range places(h) {
		t.Run(p.name, func(t *testing.T) {
			watch(t, p.name)
			var waiting sync.WaitGroup
			entered := false
			p.enter(t, db, func() {
				entered = true
				for name, call := range reads {
					if err := call(db); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				for name, call := range writers {
					if p.waits {
						waiting.Go(func() {
							if err := call(db); err != nil {
								t.Errorf("%s, which waited: %v", name, err)
							}
						})
					} else if err := call(db); !errors.Is(err, p.writes) || err != nil && p.writes == nil {
						t.Errorf("%s: %v, want %v", name, err, p.writes)
					}
				}
			})
			waiting.Wait()
			if !entered {
				t.Error("nothing was called there")
			}
			for name, call := range writers {
				if err := call(db); err != nil {
					t.Errorf("%s, afterwards: %v", name, err)
				}
			}
		})
	}
	db.recovered.damaged = nil
}

// TestCloseInsideEverything closes a store in every place in which a program's own code runs inside
// a call of the store. Close succeeds, or says that it would wait for itself.
func TestCloseInsideEverything(t *testing.T) {
	for i := range places(&hooks{}) {
		db, h := openHooked(t)
		p := places(h)[i]
		t.Run(p.name, func(t *testing.T) {
			watch(t, p.name)
			entered := false
			p.enter(t, db, func() {
				entered = true
				if err := db.Close(); !errors.Is(err, p.closes) || err != nil && p.closes == nil {
					t.Errorf("Close: %v, want %v", err, p.closes)
				}
			})
			if !entered {
				t.Error("nothing was called there")
			}
			db.recovered.damaged = nil
			must(t, db.Close())
			if _, err := db.Get(nil); !errors.Is(err, ErrClosed) {
				t.Errorf("Get of a closed store: %v", err)
			}
		})
	}
}

// TestNil passes nil for every argument that must not be nil: the call returns an error and does
// nothing.
func TestNil(t *testing.T) {
	db, _ := openHooked(t)
	var noContext context.Context
	must(t, db.Checkpoint(noContext))
	before := db.Metrics().Keys
	must(t, db.Write(nil))
	must(t, db.Compact(noContext))
	_, err := db.Backup(noContext, io.Discard)
	must(t, err)
	must(t, db.Check(noContext, func(i CheckIssue) { t.Error(i) }))
	_, noWriter := db.Backup(context.Background(), nil)
	_, noDevice := OpenDevice(nil, nil)
	for name, err := range map[string]error{
		"View": db.View(nil), "Update": db.Update(nil), "Scan": db.Scan(nil, nil, 1, nil), "long Scan": db.Scan(nil, nil, -1, nil),
		"Check": db.Check(context.Background(), nil), "Backup": noWriter, "OpenDevice": noDevice,
		"Restore":       Restore(context.Background(), filepath.Join(t.TempDir(), "s"), nil, nil),
		"RestoreDevice": RestoreDevice(context.Background(), nil, nil, nil),
	} {
		wantErr(t, name, err, errNil)
	}
	var b *Batch
	b.Reset()
	b.Replay(nil, nil, nil)
	b.ReplayUntil(nil, nil, nil)
	if b.Len() != 0 || b.Size() != 0 {
		t.Error("a nil batch is not empty")
	}
	if n := db.Metrics().Keys; n != before {
		t.Errorf("%d keys, not %d", n, before)
	}
}

// TestNeverOpened makes every call on a DB, a Tx, a cursor and a batch that are zero values or have
// ended.
func TestNeverOpened(t *testing.T) {
	over, _ := openHooked(t)
	ended, err := over.Begin(false)
	must(t, err)
	written, err := over.Begin(true)
	must(t, err)
	cursor := written.Cursor()
	cursor.First()
	must(t, errors.Join(ended.Rollback(), written.Rollback(), over.Close()))
	for _, db := range []*DB{{}, over} {
		for _, calls := range []map[string]func(*DB) error{reads, writers} {
			for name, call := range calls {
				switch name {
				case "Metrics", "Info":
					must(t, call(db))
				case "Begin(false)":
				default:
					wantErr(t, name, call(db), ErrClosed)
				}
			}
		}
		_, err := db.Begin(false)
		wantErr(t, "Begin", err, ErrClosed)
		must(t, db.Close())
		must(t, db.Close())
	}
	for _, tx := range []*Tx{{}, ended, written} {
		_, get := tx.Get(nil)
		_, has := tx.Has(nil)
		for name, err := range map[string]error{
			"Get": get, "Has": has, "Put": tx.Put(nil, nil), "Delete": tx.Delete(nil), "PutTTL": tx.PutTTL(nil, nil, time.Hour),
			"PutUntil": tx.PutUntil(nil, nil, time.Now()), "Expiry": second(tx.Expiry(nil)), "DeleteRange": tx.DeleteRange(nil, nil), "Commit": tx.Commit(),
		} {
			wantErr(t, name, err, ErrTxClosed)
		}
		must(t, tx.Rollback())
		for range tx.All(nil, nil) {
			t.Error("a key")
		}
		for range tx.Backward(nil, nil) {
			t.Error("a key")
		}
		for range tx.Prefix(nil) {
			t.Error("a key")
		}
		wantErr(t, "Err", tx.Err(), ErrTxClosed)
	}
	for _, c := range []*Cursor{{}, cursor, (&Tx{}).Cursor(), ended.Cursor()} {
		for _, moves := range []bool{c.First(), c.Last(), c.Seek(nil), c.SeekLT([]byte("x")), c.Next(), c.Prev(), c.Valid()} {
			if moves {
				t.Error("it moves")
			}
		}
		if c.Key() != nil || c.Value() != nil {
			t.Error("it stands on a key")
		}
		_ = c.Close()
		c.First()
		wantErr(t, "Err", c.Err(), ErrTxClosed)
	}
	var b Batch
	b.Put([]byte("a"), nil)
	b.Delete(nil)
	b.Reset()
}

// TestSliceWritten stores into slices that a transaction returned.
func TestSliceWritten(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	if db.Info().Protect == "none" {
		effort.NotTested(t, "nothing is protected here")
	}
	fill(t, db, "a", "b", "c")
	must(t, db.Put([]byte("large"), make([]byte, 40_000)))
	for name, store := range map[string]func(tx *Tx){
		"Get": func(tx *Tx) { v, _ := tx.Get([]byte("a")); v[0] = 1 },
		"All": func(tx *Tx) {
			for k := range tx.All(nil, nil) {
				k[0] = 1
			}
		},
		"copy": func(tx *Tx) { v, _ := tx.Get([]byte("large")); copy(v, make([]byte, 40_000)) },
		"cursor": func(tx *Tx) {
			c := tx.Cursor()
			c.Last()
			c.Value()[0] = 1
		},
	} {
		fn := func(tx *Tx) error { store(tx); t.Error("stored"); return nil }
		for in, call := range map[string]func(func(*Tx) error) error{"View": db.View, "Update": db.Update} {
			err := call(fn)
			wantErr(t, name+" in "+in, err, ErrSliceWritten)
			if errors.Is(err, ErrMediaFault) {
				t.Errorf("%s in %s: it is not the medium: %v", name, in, err)
			}
			t.Log(err)
		}
	}
	must(t, db.Put([]byte("a"), []byte("a")))
}
