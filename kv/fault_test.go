package kv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// errInjected is the error of a failing device.
var errInjected = errors.New("injected")

// faultScript is the script of every fault test: all kinds of operations, growth and a checkpoint.
// It stops at the first error.
func (s *session) faultScript() error {
	steps := []func() error{
		func() error { return s.do(put("a", "1"), put("b", elsewhere), put(wide("c"), "3")) },
		func() error {
			return s.write([]change{put("a", "2"), put("d", elsewhere), del("b"), put(wide("e"), "")}, false)
		},
		func() error { return s.write([]change{put("f", "1"), del("a"), put("f", "2")}, true) },
		func() error { return s.do(del(wide("c")), put("a", elsewhere)) },
		func() error { s.m.Log("checkpoint"); return s.checkpoint() },
		func() error {
			return s.do(put(wide("g"), "1"), del("d"), put(strings.Repeat("l", 5000), elsewhere), put("a", "3"))
		},
	}
	return script(steps...)
}

// TestFailingWrite and TestFailingFence fail each write, and each fence, of the script in turn. The
// operation returns ErrFailed, and the store refuses further writes and continues to read. Neither
// the next process on the machine nor an opening after a power failure misses an acknowledged write
// or finds half of one.
func TestFailingWrite(t *testing.T) {
	testFaults(t, (*nvmap.Sim).Writes, func(s *nvmap.Sim, n int) { s.FailWrite(n, errInjected) })
}

func TestFailingFence(t *testing.T) {
	testFaults(t, (*nvmap.Sim).Fences, func(s *nvmap.Sim, n int) { s.FailFence(n, errInjected) })
}

func testFaults(t *testing.T, count func(*nvmap.Sim) int, inject func(*nvmap.Sim, int)) {
	skipInRace(t)
	t.Parallel()
	c := newCrasher(1)
	c.images = []int{8}
	s, err := c.start()
	if err != nil {
		t.Fatal(err)
	}
	before := count(s.dev)
	if err := s.faultScript(); err != nil {
		t.Fatal(err)
	}
	abandon(s.db)
	calls := count(s.dev) - before
	failed := 0
	for n := 1; n <= calls; n += effort.Pick(3, 3, 1, 1) {
		failed++
		if err := c.failAt(n, inject); err != nil {
			t.Errorf("call %d of %d fails: %v", n, calls, err)
		}
	}
	t.Logf("%d of %d calls failed in turn, %d images", failed, calls, c.opened)
}

// failAt runs the script on a new store and lets its n-th call fail.
func (c *crasher) failAt(n int, inject func(*nvmap.Sim, int)) error {
	s, err := c.start()
	if err != nil {
		return err
	}
	defer func() { abandon(s.db) }()
	inject(s.dev, n)
	err = s.faultScript()
	if !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
		return fmt.Errorf("the script ended with %w", err)
	}
	refused := []error{
		s.db.Put([]byte("more"), nil), s.db.Delete([]byte("a")), s.db.Write(batchOf([]change{put("x", "y")})),
		s.db.Checkpoint(context.Background()), s.db.Sync(),
	}
	for i, err := range refused {
		if !errors.Is(err, ErrFailed) {
			return fmt.Errorf("write %d after the failure: %v", i, err)
		}
	}
	if err := holds(s.db, s.acked); err != nil { // the failed operation is not visible
		return fmt.Errorf("reading after the failure: %w", err)
	}
	s.crash(c.images[0])
	if s.err != nil {
		return s.err
	}
	if err := guarded(s.db.Close); err != nil {
		return fmt.Errorf("close after the failure: %w", err)
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("open after the failure: %w", err)
	}
	if s.acked, err = s.decide(s.db); err != nil {
		return fmt.Errorf("after the failure: %w", err)
	}
	s.next = nil
	s.crash(c.images[0])
	return firstErr(s.err, s.goesOn())
}

// TestFailingRecovery fails each write and each fence of an opening in turn. Open returns the
// error, and the next opening succeeds.
func TestFailingRecovery(t *testing.T) {
	c := newCrasher(1)
	c.images = []int{4}
	for n := 1; ; n++ {
		s, err := c.start()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.faultScript(); err != nil {
			t.Fatal(err)
		}
		abandon(s.db)
		inject := map[int]func(int, error){0: s.dev.FailWrite, 1: s.dev.FailFence}[n%2]
		inject((n+1)/2, errInjected)
		err = s.open()
		if err == nil { // there were fewer calls
			abandon(s.db)
			if n < 6 {
				t.Errorf("an opening made only %d calls", n)
			}
			return
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("call %d: %v", n, err)
		}
		s.dev.FailWrite(0, nil)
		s.dev.FailFence(0, nil)
		if err := s.open(); err != nil {
			t.Fatalf("call %d, opened again: %v", n, err)
		}
		if err := firstErr(holds(s.db, s.acked), clean(s.db)); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
		s.crash(c.images[0])
		abandon(s.db)
		if s.err != nil {
			t.Fatalf("call %d: %v", n, s.err)
		}
	}
}

// TestFull fills stores until they reach a bound on their size; TestFullFileSystem fills the file
// system. Everything acknowledged stays, deletes work and give space back, and the store opens
// again.
func TestFull(t *testing.T) {
	t.Parallel()
	t.Run("bound", func(t *testing.T) {
		fillStore(t, filepath.Join(testDir(t), "s"), &Options{SlabBytes: 4096, MaxBytes: 1 << 20})
	})
	t.Run("file", func(t *testing.T) {
		fillStore(t, filepath.Join(t.TempDir(), "s"), &Options{Device: "file", SlabBytes: 4096, MaxBytes: 512 << 10})
	})
}

func fillStore(t *testing.T, path string, o *Options) {
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	m := model{}
	value := func(n int) string { return strings.Repeat("v", n*37%900) }
	fill := func(most, step int) (n int) {
		for n = 0; n < most; n += step {
			k, v := fmt.Sprintf("key%06d", n), value(n)
			switch err := db.Put([]byte(k), []byte(v)); {
			case errors.Is(err, ErrFull):
				return n
			case err != nil:
				t.Fatal(err)
			}
			m[k] = v
		}
		return n
	}
	n := fill(1<<30, 1)
	if n < 100 {
		t.Fatalf("full after %d keys", n)
	}
	for _, value := range []int{0, 100, 100_000} { // full for all kinds of records, or not
		k := fmt.Sprint("extra", value)
		v := strings.Repeat("e", value)
		if err := db.Put([]byte(k), []byte(v)); err == nil {
			m[k] = v
		} else if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	m.compare(t, db)
	mustCheck(t, db)
	deleted := 0
	for i := 0; i < n; i += 2 { // give half of it back
		k := fmt.Sprintf("key%06d", i)
		if err := db.Delete([]byte(k)); err != nil {
			t.Fatalf("delete %d of a full store: %v", i, err)
		}
		delete(m, k)
		deleted++
	}
	m.compare(t, db)
	more := fill(n, 2) / 2 // use it again
	if more < deleted*2/3 {
		t.Errorf("after %d deletes only %d more keys fit", deleted, more)
	}
	m.compare(t, db)
	mustCheck(t, db)
	t.Logf("%d keys, %d of them deleted, %d more", n, deleted, more)
	abandonFile(t, db)
	db = openTest(t, path, o) // recovery of a full store
	m.compare(t, db)
	for k := range m {
		if err := db.Delete([]byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	model{}.compare(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTrace20_CrashFullStore is the crash suite on a medium that is too small: writes fail with
// ErrFull and change nothing, and the other operations continue.
func TestTrace20_CrashFullStore(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	for seed := range effort.Pick[uint64](1, 1, 2, 2) {
		c := newCrasher(100 + seed)
		c.images, c.chain = []int{effort.Pick(2, 2, 3, 3), 1}, 40
		c.ops[0] = 120
		c.limit = 220 << 10
		err := runCrashes(c)
		t.Logf("seed %d: %d images, %d writes found the store full", 100+seed, c.opened, c.full)
		if err != nil {
			t.Error(err)
		}
		if c.full == 0 {
			t.Error("the store was never full")
		}
	}
}
