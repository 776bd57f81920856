package kv

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The kill test starts a child that writes and says over a pipe what was
// acknowledged, kills it with SIGKILL in the middle, and looks at what it left.
//
// The child's operations follow from a seed: operation n of seed s is the same
// in parent and child. The child writes "n\n" after operation n returned. So
// the parent knows the state up to the last line, and that one more operation
// may have become durable.

const (
	killPathEnv = "NVKV_KILL_PATH"
	killSeedEnv = "NVKV_KILL_SEED"
)

// TestMain makes the test binary the child of a test when it is asked to.
func TestMain(m *testing.M) {
	if path := os.Getenv(lockPathEnv); path != "" {
		lockChild(path)
		return
	}
	if path := os.Getenv(reopenPathEnv); path != "" {
		runReopenChild(path)
		return
	}
	path := os.Getenv(killPathEnv)
	if path == "" {
		code := m.Run()
		sayTally()
		if err := tooFewStates(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	seed, _ := strconv.ParseUint(os.Getenv(killSeedEnv), 10, 64)
	if err := killChild(path, seed); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killOptions keep checkpoints frequent, so that kills meet them too.
func killOptions() *Options { return &Options{SlabBytes: 8192, CheckpointBytes: 64 << 10} }

// killChild writes until it is killed.
func killChild(path string, seed uint64) error {
	db, err := Open(path, killOptions())
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if err := killWrite(db, killOperation(seed, n)); err != nil {
			return fmt.Errorf("operation %d: %w", n, err)
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func killWrite(db *DB, changes []change) error {
	switch {
	case len(changes) > 1:
		return db.Write(batchOf(changes))
	case changes[0].value == nil:
		return db.Delete([]byte(changes[0].key))
	}
	return db.Put([]byte(changes[0].key), []byte(*changes[0].value))
}

// killOperation returns operation n of a seed: a put, a delete, or a batch.
func killOperation(seed uint64, n int) []change {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	count := 1
	if rng.IntN(4) == 0 {
		count = 2 + rng.IntN(30)
	}
	out := make([]change, count)
	for i := range out {
		out[i].key = fmt.Sprintf("key%03d", rng.IntN(300))
		if rng.IntN(4) == 0 {
			continue
		}
		size := rng.IntN(200)
		if rng.IntN(50) == 0 {
			size = 20000
		}
		v := fmt.Sprintf("%d/%d/%d:", seed, n, i)
		v += strings.Repeat("x", size)
		out[i].value = &v
	}
	return out
}

// killOnce runs a child for a while and returns how many operations it
// acknowledged.
func killOnce(t *testing.T, path string, seed uint64, after time.Duration) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killPathEnv+"="+path, fmt.Sprint(killSeedEnv, "=", seed))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	// The clock starts with the first acknowledgement: starting takes its time.
	acked := killLine(lines)
	kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	last := acked
	for last > 0 {
		if last = killLine(lines); last > acked {
			acked = last
		}
	}
	_ = cmd.Wait() // "signal: killed" is what is wanted
	if stderr.Len() > 0 {
		t.Fatalf("seed %d: the child said: %s", seed, stderr.String())
	}
	if acked == 0 {
		t.Fatalf("seed %d: the child acknowledged nothing", seed)
	}
	return acked
}

// killLine reads a line "n" and returns n+1, or 0 at the end. A last line that
// the kill cut short counts for nothing.
func killLine(r *bufio.Reader) int {
	line, err := r.ReadString('\n')
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return n + 1
}

// TestKill kills fifty children, one after the other on the same store, half of
// them on shared memory and half on a file system.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills fifty children")
	}
	places := []struct{ name, device, dir string }{
		{"shm", "", testDir(t)},
		{"file", "file", t.TempDir()},
	}
	for _, p := range places {
		kills := 25
		if os.Getenv("NVKV_CRASH") == "long" {
			kills = 100
		}
		t.Run(p.name, func(t *testing.T) { killLoop(t, filepath.Join(p.dir, "s"), kills) })
	}
}

func killLoop(t *testing.T, path string, kills int) {
	m := model{}
	total := 0
	for seed := range uint64(kills) {
		acked := killOnce(t, path, seed, time.Duration(15+7*seed%40)*time.Millisecond)
		total += acked
		for n := range acked {
			m = m.apply(killOperation(seed, n))
		}
		db, err := Open(path, killOptions())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := contents(db)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := difference(got, m); diff != "" {
			next := m.with(killOperation(seed, acked))
			if d := difference(got, next); d != "" {
				t.Fatalf("seed %d, %d operations acknowledged: %s; with the next one: %s", seed, acked, diff, d)
			}
			m = next
		}
		mustCheck(t, db)
		if seed%5 == 4 {
			if err := db.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if seed%2 == 0 { // the others leave the next child a store that was closed cleanly
			abandonFile(t, db)
		} else if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d kills, %d operations acknowledged, all there", kills, total)
}

// apply is with, in place.
func (m model) apply(changes []change) model {
	for _, ch := range changes {
		if ch.value == nil {
			delete(m, ch.key)
		} else {
			m[ch.key] = *ch.value
		}
	}
	return m
}

// abandonFile drops a store on a real device without a checkpoint.
func abandonFile(t *testing.T, db *DB) {
	t.Helper()
	db.closed.Store(true)
	db.closing.Lock()
	db.done = true // a Close that is due later finds nothing to do
	db.closing.Unlock()
	db.stopCheckpointer()
	if err := db.m.Close(); err != nil {
		t.Fatal(err)
	}
}
