package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
	"nvkv/internal/filegate"
	"nvkv/nvmap"
)

// Faults of real files: each system call that a script makes on its file fails in turn, once, as a
// disk or a file system may fail it. The store returns an error, refuses further writes if it
// cannot know the contents of the medium, and the next opening finds everything acknowledged.

// fileFault is a way in which a system call fails.
type fileFault struct {
	name string
	ops  []filegate.Op // the calls that fail so
	err  error         // nil: a transfer is short, and continues
	half bool          // half of the bytes pass
	lose bool          // writes since the last sync never reach the disk
}

var fileFaults = []fileFault{
	{name: "EIO", err: unix.EIO, ops: []filegate.Op{filegate.Read, filegate.Write, filegate.Sync, filegate.SyncDir, filegate.Allocate, filegate.Resize, filegate.Punch}},
	{name: "ENOSPC", err: unix.ENOSPC, ops: []filegate.Op{filegate.Write, filegate.Sync, filegate.SyncDir, filegate.Allocate, filegate.Resize}},
	{name: "half, then ENOSPC", err: unix.ENOSPC, half: true, ops: []filegate.Op{filegate.Write}},
	{name: "half, then EIO", err: unix.EIO, half: true, ops: []filegate.Op{filegate.Read, filegate.Write}},
	{name: "EIO, and pages are lost", err: unix.EIO, lose: true, ops: []filegate.Op{filegate.Sync}},
	{name: "short", half: true, ops: []filegate.Op{filegate.Read, filegate.Write}}, // not for block: see TestShortWrites
}

// faultyFile is the gate of one file and fails one call.
type faultyFile struct {
	path  string
	fault *fileFault // nil: nothing fails
	at    int        // number of the call that fails, from 1, among those that fault concerns

	mu     sync.Mutex
	calls  int         // calls so far that fault concerns
	failed int         // calls that failed
	first  filegate.Op // the first call that failed
	olds   []preimage  // old contents, for the writes since the last sync
	rng    *rand.Rand  // which of them are lost
}

// preimage is the content of a file before a write.
type preimage struct {
	off int64
	old []byte
}

func (f *faultyFile) ask(c filegate.Call) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	failed := f.fails(c.Op)
	switch c.Op {
	case filegate.Write:
		f.keepOld(c)
	case filegate.Sync:
		if failed && f.fault.lose {
			f.loseSome()
		}
		f.olds = nil
	}
	if !failed {
		return c.N, nil
	}
	f.failed++
	f.first = c.Op
	if f.fault.half {
		return c.N / 2 &^ 7, f.fault.err
	}
	return 0, f.fault.err
}

func (f *faultyFile) fails(op filegate.Op) bool {
	if f.fault == nil {
		return false
	}
	for _, o := range f.fault.ops {
		if o == op {
			f.calls++
			return f.calls == f.at
		}
	}
	return false
}

// keepOld saves the bytes that a write is about to change.
func (f *faultyFile) keepOld(c filegate.Call) {
	if f.fault == nil || !f.fault.lose {
		return
	}
	old := make([]byte, c.N)
	file, err := os.Open(f.path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	n, _ := file.ReadAt(old, c.Off) // bytes behind the end did not exist
	f.olds = append(f.olds, preimage{c.Off, old[:n]})
}

// loseSome undoes some of the page writes since the last sync, like a kernel that drops pages that
// it could not write.
func (f *faultyFile) loseSome() {
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	lost := map[int64]bool{}
	for i := len(f.olds) - 1; i >= 0; i-- {
		for p := f.olds[i]; len(p.old) > 0; {
			page := p.off / nvmap.PageBytes
			n := min(int64(len(p.old)), (page+1)*nvmap.PageBytes-p.off)
			if _, known := lost[page]; !known {
				lost[page] = f.rng.IntN(3) > 0
			}
			if lost[page] {
				if _, err := file.WriteAt(p.old[:n], p.off); err != nil {
					panic(err)
				}
			}
			p = preimage{p.off + n, p.old[n:]}
		}
	}
}

// fileScript is the script: every kind of operation, growth, and checkpoints.
func fileScript() []killOp {
	do := func(changes ...change) killOp { return killOp{changes: changes} }
	return []killOp{
		do(put("a", "1")),
		do(put("b", elsewhere), put(wide("c"), "3"), put("small", "4"), put("r1", "5"), put("r2", elsewhere)),
		do(del("b"), put("a", "2"), put(wide("d"), "")),
		{checkpoint: true},
		do(delRange("r", "s")),
		do(put("b", elsewhere), put(wide("e"), "6"), put("x", "7")),
		{}, // Sync
		do(put(strings.Repeat("l", 1200), elsewhere)),
		do(del("a")),
		{checkpoint: true},
		do(put("a", "3"), put("f", strings.Repeat("v", 20_000))),
	}
}

// faultRun is a store whose file has a gate, and the contents that it must have.
type faultRun struct {
	gate  *faultyFile
	opt   Options
	acked model
	next  model // with the operation whose outcome is unknown; nil: there is none
}

// open opens the store, with its gate or without.
func (r *faultRun) open(gated bool) (db *DB, err error) {
	if gated {
		filegate.Set(r.gate.path, r.gate.ask)
		defer filegate.Set(r.gate.path, nil)
	}
	err = guarded(func() (err error) { o := r.opt; db, err = Open(r.gate.path, &o); return err })
	return db, err
}

// script runs the script until the store fails or is closed.
func (r *faultRun) script(db *DB) error {
	for i, op := range fileScript() {
		next := r.acked.with(op.changes)
		err := guarded(func() error { return op.do(db) })
		switch {
		case err == nil:
			r.acked = next
		case !r.ours(err):
			return fmt.Errorf("operation %d: %w", i, err)
		case errors.Is(err, ErrFailed):
			r.next = next
			return r.refuses(db)
		default: // it has no effect
			if err := holds(db, r.acked); err != nil {
				return fmt.Errorf("after operation %d, which failed: %w", i, err)
			}
		}
	}
	return nil
}

// ours says whether an error is, or results from, the injected fault.
func (r *faultRun) ours(err error) bool {
	if r.gate.failed == 0 {
		return false
	}
	return errors.Is(err, r.gate.fault.err) || errors.Is(err, ErrFailed)
}

// refuses says whether a failed store takes no more writes but can be read.
func (r *faultRun) refuses(db *DB) error {
	for i, err := range []error{db.Put([]byte("more"), nil), db.Delete([]byte("a")), db.Checkpoint(context.Background()), db.Sync()} {
		if !errors.Is(err, ErrFailed) {
			return fmt.Errorf("write %d after the failure: %v", i, err)
		}
	}
	if err := holds(db, r.acked); err != nil {
		return fmt.Errorf("reading after the failure: %w", err)
	}
	return nil
}

// found opens the store without a gate and says whether it has the right contents, takes writes,
// and can be opened again.
func (r *faultRun) found() error {
	db, err := r.open(false)
	if err != nil {
		return err
	}
	got, err := contents(db)
	if err == nil {
		if diff := difference(got, r.acked); diff != "" && (r.next == nil || difference(got, r.next) != "") {
			err = fmt.Errorf("not what was acknowledged: %s", diff)
		}
		more := change{key: "more", value: new(string)}
		err = firstErr(err, clean(db), commitChanges(db, []change{more}, false), db.Close())
		got = got.with([]change{more})
	}
	if err != nil {
		abandon(db)
		return err
	}
	if db, err = r.open(false); err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return firstErr(holds(db, got), clean(db))
}

// once runs the script from the creation of a store to its closing, with one call failing, and says
// whether there was such a call.
func (r *faultRun) once() (failed bool, err error) {
	db, err := r.open(true)
	switch {
	case err == nil:
		err = r.script(db)
		if closing := guarded(db.Close); closing != nil && !r.ours(closing) {
			err = firstErr(err, fmt.Errorf("close: %w", closing))
		}
	case r.ours(err):
		err = nil
	}
	if err == nil {
		err = r.found()
	}
	return r.gate.failed > 0, err
}

// reopened runs the script without a fault, drops the store, and fails a call of the next opening.
func (r *faultRun) reopened() (failed bool, err error) {
	db, err := r.open(false)
	if err != nil {
		return false, err
	}
	if err := r.script(db); err != nil {
		return false, err
	}
	abandon(db)
	db, err = r.open(true)
	switch {
	case err == nil: // the opening managed without
		err = firstErr(holds(db, r.acked), clean(db))
		abandon(db)
	case r.ours(err):
		err = nil
	}
	if err == nil {
		err = r.found()
	}
	return r.gate.failed > 0, err
}

// TestFileFaults fails every system call on a real file in turn. Except in the long form, the
// ordinary file is in memory, where syncing is cheap, and one in five of the disk's calls fails.
// The plain form takes one in five of those.
func TestFileFaults(t *testing.T) {
	skipInRace(t)
	for _, kind := range []string{"file", "block"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir, first, step := testDir(t), 1, effort.Pick(5, 5, 1, 1)
			switch {
			case effort.Now() == effort.Long:
				dir = t.TempDir()
			case kind == "block":
				dir, step = t.TempDir(), 5*step
			}
			calls := map[string]int{}
			for name, do := range map[string]func(*faultRun) (bool, error){"script": (*faultRun).once, "opening": (*faultRun).reopened} {
				for i := range fileFaults {
					fault := &fileFaults[i]
					if fault.err == nil && kind != "block" {
						continue // package os continues by itself
					}
					first = first%step + 1
					for at := first; ; at += step {
						path := filepath.Join(dir, "s")
						r := &faultRun{acked: model{}, opt: Options{Device: kind, SlabBytes: 4096, EvacuateBytes: -1, MaxBytes: 64 << 20},
							gate: &faultyFile{path: path, fault: fault, at: at, rng: rand.New(rand.NewPCG(uint64(at), 1))}}
						failed, err := do(r)
						if errors.Is(err, errors.ErrUnsupported) {
							effort.NotTested(t, "%s: %v", kind, err)
						}
						if err != nil {
							t.Errorf("%s: %s of call %d (%s): %v", name, fault.name, at, r.gate.first, err)
						}
						must(t, os.Remove(path))
						if !failed {
							break
						}
						calls[fmt.Sprintf("%s, %s", name, fault.name)]++
					}
				}
			}
			for what, n := range calls {
				t.Logf("%s: %d calls failed in turn", what, n)
			}
			if calls["script, EIO"] < 100/step || calls["opening, EIO"] < 20/step {
				t.Errorf("only %v", calls)
			}
		})
	}
}

// TestShortWrites: the kernel itself cuts writes short. The limit on the size of files is inside a
// store, and moves. A write across the limit writes the part below it and is short; the rest fails.
func TestShortWrites(t *testing.T) {
	skipInRace(t)
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	limit := func(n uint64) {
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: min(n, before.Max), Max: before.Max}))
	}
	defer limit(before.Cur)
	for _, kind := range []string{"file", "block"} {
		t.Run(kind, func(t *testing.T) {
			failed, went := 0, 0
			for at := uint64(0); at < 60; at += effort.Pick[uint64](5, 5, 1, 1) {
				path := filepath.Join(effort.Dir(t), "s")
				r := &faultRun{acked: model{}, opt: Options{Device: kind, SlabBytes: 4096, EvacuateBytes: -1, MaxBytes: 64 << 20},
					gate: &faultyFile{path: path, fault: &fileFault{err: unix.EFBIG}, failed: 1}}
				db, err := r.open(false)
				if errors.Is(err, errors.ErrUnsupported) {
					effort.NotTested(t, "%s: %v", kind, err)
				}
				must(t, err)
				limit(20_480 + at*6_000/8*8)
				err = r.script(db)
				limit(before.Cur)
				if closing := db.Close(); closing != nil && !r.ours(closing) {
					t.Errorf("limit %d: close: %v", at, closing)
				}
				if err == nil {
					err = r.found()
				}
				if err != nil {
					t.Errorf("limit %d: %v", at, err)
				}
				if r.next != nil {
					failed++
				} else {
					went++
				}
			}
			t.Logf("%d stores failed at a write that the kernel cut short or refused, %d did not", failed, went)
			if failed == 0 {
				t.Error("nothing failed")
			}
		})
	}
}
