package kv

import (
	"bufio"
	"context"
	"errors"
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

	"nvkv/internal/effort"
)

// The kill test starts a child that writes and reports acknowledged operations over a pipe, kills
// it with SIGKILL, and checks the store that it left.
//
// A seed determines the child's operations: operation n of seed s is the same in parent and child.
// The child writes "n moved\n" after operation n has returned. So the parent knows the state up to
// the last line, and that one more operation may be durable. Beside the operations, records move:
// the background evacuator empties sparse slabs, and every other child also compacts all the time.
//
// Every fourth child is in relaxed mode. Its store must have a state of some moment since its last
// Sync or checkpoint: a prefix of the history.

const (
	killPathEnv   = "NVKV_KILL_PATH"
	killDeviceEnv = "NVKV_KILL_DEVICE"
	killSeedEnv   = "NVKV_KILL_SEED"
)

// TestMain turns the test binary into the child of a test if the environment asks for it.
func TestMain(m *testing.M) {
	if path := os.Getenv(lockPathEnv); path != "" {
		lockChild(path)
		return
	}
	if path := os.Getenv(reopenPathEnv); path != "" {
		runReopenChild(path)
		return
	}
	if seeds := os.Getenv(hostileEnv); seeds != "" {
		hostileChild(seeds)
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
	if err := killChild(path, os.Getenv(killDeviceEnv), seed); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killOptions make checkpoints frequent, so that kills hit them too.
func killOptions() *Options {
	return &Options{SlabBytes: 8192, CheckpointBytes: 64 << 10, EvacuateBytes: -1}
}

// killRelaxed says whether a seed's child is in relaxed mode.
func killRelaxed(seed uint64) bool { return seed%4 == 3 }

// killChild writes until it is killed.
func killChild(path, device string, seed uint64) error {
	o := killOptions()
	o.Device = device
	o.EvacuateBytes, o.tidySlack, o.moveTogether = 0, 1, seed%3 == 0
	if killRelaxed(seed) {
		o.Durability = Relaxed
	}
	db, err := Open(path, o)
	if err != nil {
		return err
	}
	if seed%2 == 1 {
		go killCompact(db)
	}
	moved := uint64(0)
	for n := 0; ; n++ {
		if err := killOperation(seed, n).do(db); err != nil {
			return fmt.Errorf("operation %d: %w", n, err)
		}
		if n%16 == 0 {
			moved = db.Metrics().EvacuatedRecords
		}
		if _, err := fmt.Println(n, moved); err != nil {
			return err
		}
	}
}

// killCompact compacts until the process is killed.
func killCompact(db *DB) {
	for {
		if err := db.Compact(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "compact:", err)
			os.Exit(1)
		}
	}
}

// killOp is one operation of a child: changes made at once, or without changes a checkpoint or a
// Sync.
type killOp struct {
	changes    []change
	checkpoint bool
}

func (o killOp) do(db *DB) error {
	switch {
	case len(o.changes) > 0:
		return commitChanges(db, o.changes, false)
	case o.checkpoint:
		return db.Checkpoint(context.Background())
	}
	return db.Sync()
}

// killOperation returns operation n of a seed: a put, a delete, a deleted range,
// a batch of these, a checkpoint or a Sync.
func killOperation(seed uint64, n int) killOp {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	count := 1
	switch r := rng.IntN(40); {
	case r == 0:
		return killOp{checkpoint: true}
	case r < 3:
		return killOp{}
	case r < 13:
		count = 2 + rng.IntN(30)
	}
	out := make([]change, count)
	for i := range out {
		key := rng.IntN(300)
		out[i].key = fmt.Sprintf("key%03d", key)
		switch r := rng.IntN(40); {
		case r < 2:
			upTo := fmt.Sprintf("key%03d", key+1+rng.IntN(40))
			out[i].upTo = &upTo
			continue
		case r < 10:
			continue
		}
		size := rng.IntN(200)
		switch r := rng.IntN(400); {
		case r == 0:
			size = 300_000
		case r < 8:
			size = 20_000
		}
		v := fmt.Sprintf("%d/%d/%d:", seed, n, i)
		v += strings.Repeat("x", size)
		out[i].value = &v
	}
	return killOp{changes: out}
}

// killed is the last report of a child.
type killed struct {
	acked int    // operations
	moved uint64 // records that evacuation and compaction moved
}

// killOnce runs a child for a while and returns what it acknowledged.
func killOnce(t *testing.T, path, device string, seed uint64, after time.Duration) (k killed) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killPathEnv+"="+path, killDeviceEnv+"="+device, fmt.Sprint(killSeedEnv, "=", seed))
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
	// The time begins with the first acknowledgement, because starting takes time.
	more := k.line(lines)
	kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	for more {
		more = k.line(lines)
	}
	_ = cmd.Wait() // "signal: killed" is expected
	if stderr.Len() > 0 {
		t.Fatalf("seed %d: the child said: %s", seed, stderr.String())
	}
	if k.acked == 0 {
		t.Fatalf("seed %d: the child acknowledged nothing", seed)
	}
	return k
}

// line reads "n moved" and says whether there was such a line. It ignores a last line that the kill
// cut short.
func (k *killed) line(r *bufio.Reader) bool {
	line, err := r.ReadString('\n')
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
		return false
	}
	var n int
	var moved uint64
	if _, err := fmt.Sscan(line, &n, &moved); err != nil {
		return false
	}
	k.acked, k.moved = n+1, moved
	return true
}

// TestKill kills children, one after the other on the same store, half of them on shared memory and
// half on a file system.
func TestKill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills dozens of children")
	}
	places := []struct{ name, device, dir string }{
		{"shm", "", testDir(t)},
		{"file", "file", t.TempDir()},
	}
	for _, p := range places {
		kills := effort.Pick(0, 8, 25, 100)
		t.Run(p.name, func(t *testing.T) { killLoop(t, filepath.Join(p.dir, "s"), p.device, kills) })
	}
}

// killLife is how long a seed's child lives after its first operation. Some live until the
// evacuator begins.
func killLife(seed uint64) time.Duration {
	life := 15 + 7*seed%40
	if seed%5 == 2 {
		life += 400
	}
	return time.Duration(life) * time.Millisecond
}

func killLoop(t *testing.T, path, device string, kills int) {
	m := model{}
	var total killed
	undone, ranges := 0, 0
	for seed := range uint64(kills) {
		k := killOnce(t, path, device, seed, killLife(seed))
		total.acked += k.acked
		total.moved += k.moved
		ranges += killRanges(seed, k.acked)
		o := killOptions()
		o.Device = device
		db, err := Open(path, o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var lost int
		if m, lost, err = killFind(db, m, seed, k.acked); err != nil {
			t.Fatalf("seed %d, %d operations acknowledged, relaxed=%v: %v", seed, k.acked, killRelaxed(seed), err)
		}
		undone += lost
		mustCheck(t, db)
		if seed%5 == 4 {
			if err := db.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if seed%2 == 0 { // the others leave a cleanly closed store to the next child
			abandonFile(t, db)
		} else if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d kills, %d operations acknowledged, %d with deleted ranges, %d records moved meanwhile; all there but %d of relaxed mode",
		kills, total.acked, ranges, total.moved, undone)
	if total.moved == 0 || ranges == 0 {
		t.Error("nothing was moved, or no range deleted")
	}
}

// killRanges counts operations with deleted ranges among the first n of a seed.
func killRanges(seed uint64, n int) (ranges int) {
	for i := range n {
		for _, ch := range killOperation(seed, i).changes {
			if ch.upTo != nil {
				ranges++
				break
			}
		}
	}
	return ranges
}

// killFind determines which state a killed child left that began with m and acknowledged this many
// operations: that of all of them, or of one more. In relaxed mode it may be of fewer, but not of
// fewer than at its last Sync or checkpoint. lost is how many are missing.
func killFind(db *DB, m model, seed uint64, acked int) (found model, lost int, err error) {
	got, err := contents(db)
	if err != nil {
		return nil, 0, err
	}
	least := acked
	if killRelaxed(seed) {
		for least > 0 && len(killOperation(seed, least-1).changes) > 0 {
			least--
		}
	}
	for n := range least {
		m = m.apply(killOperation(seed, n).changes)
	}
	var differences []string
	for n := least; n <= acked+1; n++ {
		diff := difference(got, m)
		if diff == "" {
			return m, max(0, acked-n), nil
		}
		differences = append(differences, fmt.Sprintf("after %d: %s", n, diff))
		m = m.apply(killOperation(seed, n).changes)
	}
	return nil, 0, errors.New(strings.Join(differences, "; "))
}

// apply is with, in place.
func (m model) apply(changes []change) model {
	for _, ch := range changes {
		switch {
		case ch.upTo != nil:
			for k := range m {
				if k >= ch.key && k < *ch.upTo {
					delete(m, k)
				}
			}
		case ch.value == nil:
			delete(m, ch.key)
		default:
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
	db.done = true // a later Close finds nothing to do
	db.closing.Unlock()
	db.stopCheckpointer()
	if err := db.m.Close(); err != nil {
		t.Fatal(err)
	}
}
