package nvkvraft

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"nvkv/internal/effort"
	"nvkv/kv"
	"nvkv/nvmap"
)

func reader(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// sink is a snapshot in memory, or nowhere.
type sink struct {
	io.Writer
	closed, canceled bool
}

func (s *sink) ID() string    { return "test" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.canceled = true; return nil }

// snapshotOf persists a snapshot.
func snapshotOf(t testing.TB, f *FSM) []byte {
	t.Helper()
	var b bytes.Buffer
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	to := &sink{Writer: &b}
	if err := s.Persist(to); err != nil || !to.closed {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSnapshotIsOneInstant changes the state between Snapshot and Persist.
func TestSnapshotIsOneInstant(t *testing.T) {
	f := newState(t)
	f.Apply(entryOf(t, 1, Command{Do: []Op{put("a", "1")}}))
	want := all(t, f)
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	f.Apply(entryOf(t, 2, Command{Do: []Op{put("a", "2"), put("b", "2")}}))
	var b bytes.Buffer
	if err := s.Persist(&sink{Writer: &b}); err != nil {
		t.Fatal(err)
	}
	g := newState(t)
	g.Apply(entryOf(t, 9, Command{Do: []Op{put("z", "9")}}))
	if err := g.Restore(reader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got := all(t, g); !maps.Equal(got, want) || g.Applied() != 1 {
		t.Fatalf("%q, want %q", got, want)
	}
}

// TestSnapshotMemory: what a snapshot allocates does not depend on the size of the state.
func TestSnapshotMemory(t *testing.T) {
	f := newState(t)
	value := strings.Repeat("v", 1000)
	index := uint64(0)
	allocated := func(keys int) uint64 {
		for int(index) < keys/100 {
			var ops []Op
			for i := range 100 {
				ops = append(ops, put(fmt.Sprintf("%06d-%02d", index, i), value))
			}
			index++
			f.Apply(entryOf(t, index, Command{Do: ops}))
		}
		s, err := f.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.Persist(&sink{Writer: io.Discard}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small := allocated(1000)
	large := allocated(30000)
	if large > small+8<<20 {
		t.Errorf("a snapshot of 30 MB allocates %d bytes, of 1 MB %d", large, small)
	}
}

// TestRestoreOfHalf: a stream that ends early, or is changed, leaves the state as it was.
func TestRestoreOfHalf(t *testing.T) {
	f := newState(t)
	f.ApplyBatch(randomRun(t, 1, 200))
	whole := snapshotOf(t, f)
	g := newState(t)
	g.ApplyBatch(randomRun(t, 2, 50))
	want := all(t, g)
	for n := 0; n < len(whole); n += 1 + len(whole)/effort.Pick(6, 40, 100, 400) {
		if err := g.Restore(reader(whole[:n])); err == nil {
			t.Fatalf("restored %d bytes of %d", n, len(whole))
		}
		bad := bytes.Clone(whole)
		bad[n] ^= 4
		if err := g.Restore(reader(bad)); err == nil {
			t.Fatalf("restored with a changed byte at %d", n)
		}
		if got := all(t, g); !maps.Equal(got, want) || g.Failure() != nil {
			t.Fatalf("after %d bytes of a snapshot the state is another one", n)
		}
	}
	if left, _ := filepath.Glob(g.incoming() + "*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestOpenRemovesWhatWasLeft: files of a Restore that was killed go, whatever the directory's name.
func TestOpenRemovesWhatWasLeft(t *testing.T) {
	dir := filepath.Join(effort.Dir(t), "a[b")
	for _, name := range []string{"state.nv.incoming.restore-1", "state.nv" + tried + "1/state.nv", "state.nw"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	openState(t, filepath.Join(dir, "state.nv"))
	var left []string
	list, err := os.ReadDir(dir)
	for _, e := range list {
		left = append(left, e.Name())
	}
	if err != nil || fmt.Sprint(left) != "[state.nv state.nw]" {
		t.Fatal(left, err)
	}
}

// TestReadsBesideRestore: who reads the old state goes on reading it.
func TestReadsBesideRestore(t *testing.T) {
	f := newState(t)
	f.Apply(entryOf(t, 1, Command{Do: []Op{put("a", "old"), put("b", "old")}}))
	g := newState(t)
	g.Apply(entryOf(t, 1, Command{Do: []Op{put("a", "new"), put("b", "new")}}))
	b := snapshotOf(t, g)
	var seen []string
	err := f.Scan(nil, nil, 2, func(_, v []byte) bool {
		if len(seen) == 0 {
			if err := f.Restore(reader(b)); err != nil {
				t.Error(err)
			}
		}
		seen = append(seen, string(v))
		return true
	})
	if err != nil || fmt.Sprint(seen) != "[old old]" {
		t.Fatal(seen, err)
	}
	if v, err := f.Get([]byte("a")); err != nil || string(v) != "new" {
		t.Fatalf("%q, %v", v, err)
	}
}

const restoreVariable = "NVKV_RAFT_RESTORE" // directory, then where to die: a number of bytes or a step

func TestMain(m *testing.M) {
	if arg := os.Getenv(restoreVariable); arg != "" {
		dir, where, _ := strings.Cut(arg, "|")
		fmt.Println(dieInRestore(dir, where))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// killer reads until n bytes, and kills the process then.
type killer struct {
	r io.Reader
	n int
}

func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }

func (k *killer) Read(p []byte) (int, error) {
	if k.n <= 0 {
		die()
	}
	n, err := k.r.Read(p[:min(len(p), k.n)])
	k.n -= n
	return n, err
}

func (k *killer) Close() error { return nil }

func dieInRestore(dir, where string) error {
	f, err := OpenFSM(filepath.Join(dir, "state.nv"), nil)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "snapshot"))
	if err != nil {
		return err
	}
	k := &killer{bytes.NewReader(b), len(b) + 1}
	if _, err := fmt.Sscan(where, &k.n); err != nil {
		f.step = func(s string) {
			if s == where {
				die()
			}
		}
	}
	return f.Restore(k)
}

// TestRestoreKilled kills a process at points of its Restore. Its state is the old one or the new
// one, and NeedsRestore says which.
func TestRestoreKilled(t *testing.T) {
	f := newState(t)
	f.ApplyBatch(randomRun(t, 1, 200))
	want, snap := all(t, f), snapshotOf(t, f)
	for _, where := range []string{"0", "50", fmt.Sprint(len(snap) / 2), fmt.Sprint(len(snap)), "restored", "received", "renamed"} {
		dir := effort.Dir(t)
		g := openState(t, filepath.Join(dir, "state.nv"))
		g.ApplyBatch(randomRun(t, 2, 50))
		old := all(t, g)
		if err := errors.Join(g.Close(), os.WriteFile(filepath.Join(dir, "snapshot"), snap, 0o600)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), restoreVariable+"="+dir+"|"+where)
		out, err := cmd.CombinedOutput()
		if state := cmd.ProcessState; state == nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: not killed: %v, %s", where, err, out)
		}
		g = openState(t, filepath.Join(dir, "state.nv"))
		store := raft.NewInmemSnapshotStore()
		to, err := store.Create(1, 200, 1, raft.Configuration{}, 1, nil)
		if err == nil {
			_, err = to.Write(snap)
		}
		if err := errors.Join(err, to.Close()); err != nil {
			t.Fatal(err)
		}
		needs, err := g.NeedsRestore(store)
		if err != nil {
			t.Fatal(err)
		}
		state := all(t, g)
		if where == "renamed" {
			if !maps.Equal(state, want) || needs {
				t.Errorf("%s: the new state is not there, or is restored again: %v", where, needs)
			}
		} else if !maps.Equal(state, old) || !needs {
			t.Errorf("%s: the old state is not there, or is not replaced: %v", where, needs)
		}
		if left, _ := filepath.Glob(g.incoming() + "*"); len(left) > 0 {
			t.Errorf("%s: left: %q", where, left)
		}
	}
}

// TestStateCrash opens crash images of the relaxed store: each is the state of some entry, from
// which the entries behind it lead to the last state. After a snapshot nothing below it is lost.
func TestStateCrash(t *testing.T) {
	lost := 0
	for seed := range uint64(effort.Pick(2, 4, 20, 100)) {
		logs := randomRun(t, seed, 200)
		reference := newState(t)
		states := []map[string]string{all(t, reference)}
		for _, l := range logs {
			reference.Apply(l)
			states = append(states, all(t, reference))
		}
		dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
		on := func(dev nvmap.Device) *FSM {
			f := newFSM(filepath.Join(effort.Dir(t), "none"), nil)
			f.openKV = func(_ string, o *kv.Options) (*kv.DB, error) { return kv.OpenDevice(dev, o) }
			if err := f.start(); err != nil {
				t.Fatal(err)
			}
			return f
		}
		f := on(dev)
		synced := uint64(0)
		for i := 0; i < len(logs); i += 10 {
			f.ApplyBatch(logs[i : i+10])
			if i%70 == 60 {
				snapshotOf(t, f)
				synced = uint64(i + 10)
			}
			image := on(dev.Crash(seed<<16 + uint64(i)))
			at := image.Applied()
			if at < synced || at > uint64(i+10) {
				t.Fatalf("seed %d: applied %d of %d, and a snapshot at %d", seed, at, i+10, synced)
			}
			if at < uint64(i+10) {
				lost++
			}
			if got := all(t, image); !maps.Equal(got, states[at]) {
				t.Fatalf("seed %d: the image is not the state of entry %d", seed, at)
			}
			image.ApplyBatch(logs[:i+10]) // raft replays from a snapshot on
			if got := all(t, image); !maps.Equal(got, states[i+10]) {
				t.Fatalf("seed %d: a replay from entry %d leads elsewhere", seed, at)
			}
			if err := image.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if lost == 0 {
		t.Error("no crash lost anything: the test shows nothing")
	}
}
