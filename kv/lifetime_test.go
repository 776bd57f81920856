package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// lifetimeEnv names how long TestLifetimes runs, as a time.Duration; lifetimeBroken the rules that
// are switched off in it, as a number.
const (
	lifetimeEnv    = "NVKV_LIFETIME"
	lifetimeBroken = "NVKV_LIFETIME_BROKEN"
)

// TestLifetimes mixes everything that frees with everything that reads in place: puts, overwrites,
// deletes, batches, large values, checkpoints, evictions of frames, moves of records and discards
// of blocks, beside point reads, snapshots that hold on to slices, iterators and cursors (I9, I13).
// A value names its key and is random otherwise. So anything that is reused too early shows: a
// slice that changed, a value of another key, a wrong checksum, a second iteration that differs
// from the first.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	d := effort.Pick(700*time.Millisecond, 700*time.Millisecond, 2*time.Second, 10*time.Second)
	if s := os.Getenv(lifetimeEnv); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	broken, _ := strconv.ParseUint(os.Getenv(lifetimeBroken), 10, 64)
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{SlabBytes: 4096, CheckpointBytes: 256 << 10, MaxBytes: 256 << 20, tidySlack: 1, broken: rules(broken)})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := &lifetimes{db: db, broken: broken != 0}
	for id, work := range []func(*rand.Rand){
		l.write, l.write, l.write, l.get, l.get, l.snapshot, l.snapshot, l.cursor, l.checkpoint, l.evict, l.compact,
	} {
		l.wg.Go(func() { l.loop(work, rand.New(rand.NewPCG(seed, uint64(id)))) })
	}
	time.Sleep(d)
	// A busy machine needs more time for the same work.
	for began := time.Now(); !l.enough() && !l.stop.Load() && time.Since(began) < effort.Hang; {
		time.Sleep(50 * time.Millisecond)
	}
	l.stop.Store(true)
	l.wg.Wait()
	if p := l.found.Load(); p != nil {
		t.Fatal(*p)
	}
	m, s := db.Metrics(), db.m.Stats()
	t.Logf("%d puts, %d deletes, %d point reads, %d snapshots, %d checkpoints, %d evictions, %d discards", m.Puts, m.Deletes, l.gets.Load(), l.snapshots.Load(), m.Checkpoints, s.Evictions, s.Discards)
	if !l.enough() {
		t.Error("too little happened to mean anything")
	}
}

// enough says whether everything that can go wrong has happened some times.
func (l *lifetimes) enough() bool {
	m, s := l.db.Metrics(), l.db.m.Stats()
	return l.snapshots.Load() >= 5 && l.gets.Load() >= 500 && m.Puts >= 100 && m.Checkpoints >= 2 && s.Evictions > 0 && s.Discards > 0
}

// TestLifetimesCatch: without one of the rules that keep things alive, TestLifetimes fails. It runs
// in child processes, because a premature reuse may crash them.
func TestLifetimesCatch(t *testing.T) {
	t.Parallel()
	if testing.Short() || raceBuild {
		t.Skip("several processes under load")
	}
	needsSwitches(t)
	for name, rule := range map[string]rules{"record": ruleI9Record, "page": ruleI9Page, "reader": ruleI9Reader, "frame": ruleI13} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*effort.Hang)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestLifetimes$", "-test.v")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", lifetimeBroken, rule), fmt.Sprint(lifetimeEnv, "=", effort.Hang))
			out, err := cmd.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte(lifetimeFound)) {
				t.Fatalf("the premature reuse was not noticed: %v\n%s", err, out)
			}
			at := bytes.Index(out, []byte(lifetimeFound))
			t.Logf("noticed: %s", bytes.SplitN(out[at:], []byte("\n"), 2)[0])
		})
	}
}

// lifetimeFound begins the output of a broken TestLifetimes.
const lifetimeFound = "reused too early: "

type lifetimes struct {
	db        *DB
	broken    bool
	wg        sync.WaitGroup
	stop      atomic.Bool
	found     atomic.Pointer[string]
	gets      atomic.Int64
	snapshots atomic.Int64
	version   atomic.Uint64
}

// report ends the test. With a rule switched off it ends the process, because locks may be held for
// ever.
func (l *lifetimes) report(format string, args ...any) {
	s := lifetimeFound + fmt.Sprintf(format, args...)
	if l.broken {
		fmt.Println(s)
		os.Exit(1)
	}
	l.found.CompareAndSwap(nil, &s)
	l.stop.Store(true)
}

func (l *lifetimes) loop(work func(*rand.Rand), rng *rand.Rand) {
	defer func() {
		if r := recover(); r != nil {
			l.report("panic: %v\n%s", r, debug.Stack())
		}
	}()
	for !l.stop.Load() {
		work(rng)
	}
}

const lifetimeKeys = 600

func lifetimeKey(i int) []byte { return fmt.Appendf(nil, "key %04d, and some more", i) }

// lifeValue is a value that names its key: key number, version, then bytes that both determine.
func lifeValue(rng *rand.Rand, key int, version uint64) []byte {
	n := 16 + rng.IntN(200)
	switch rng.IntN(50) {
	case 0:
		n = 5000 + rng.IntN(20_000) // in runs
	case 1, 2, 3:
		n = 300 + rng.IntN(600)
	}
	v := make([]byte, n)
	binary.LittleEndian.PutUint64(v, uint64(key))
	binary.LittleEndian.PutUint64(v[8:], version)
	fillFrom(v)
	return v
}

func fillFrom(v []byte) {
	x := (binary.LittleEndian.Uint64(v)+1)*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(v[8:])
	for i := 16; i < len(v); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		v[i] = byte(x >> 56)
	}
}

// checkLife says what is wrong with a value of key.
func checkLife(key, v []byte) error {
	if len(v) < 16 {
		return fmt.Errorf("%q has %d bytes", key, len(v))
	}
	if i := int(binary.LittleEndian.Uint64(v)); !bytes.Equal(lifetimeKey(i), key) {
		return fmt.Errorf("%q has the value of key %d", key, i)
	}
	want := append([]byte(nil), v...)
	fillFrom(want)
	if !bytes.Equal(want, v) {
		return fmt.Errorf("%q: %d bytes of version %d are not what was put", key, len(v), binary.LittleEndian.Uint64(v[8:]))
	}
	return nil
}

func (l *lifetimes) write(rng *rand.Rand) {
	var err error
	i := rng.IntN(lifetimeKeys)
	switch rng.IntN(20) {
	case 0, 1, 2:
		err = l.db.Delete(lifetimeKey(i))
	case 3:
		err = l.db.DeleteRange(lifetimeKey(i), lifetimeKey(i+rng.IntN(20)))
	case 4, 5:
		b := l.db.NewBatch()
		for range 20 {
			i := rng.IntN(lifetimeKeys)
			b.Put(lifetimeKey(i), lifeValue(rng, i, l.version.Add(1)))
		}
		err = l.db.Write(b)
	default:
		err = l.db.Put(lifetimeKey(i), lifeValue(rng, i, l.version.Add(1)))
	}
	if err != nil {
		l.report("write: %v", err)
	}
}

func (l *lifetimes) get(rng *rand.Rand) {
	key := lifetimeKey(rng.IntN(lifetimeKeys))
	v, err := l.db.Get(key)
	l.gets.Add(1)
	if errors.Is(err, ErrNotFound) {
		return
	}
	if err == nil {
		err = checkLife(key, v)
	}
	if err != nil {
		l.report("get: %v", err)
	}
}

// kept is a slice of a Tx, with a copy made when it was returned.
type kept struct{ slice, copy []byte }

func keep(slice []byte) kept { return kept{slice, bytes.Clone(slice)} }

// snapshot reads in a Tx for a while, and checks that nothing changes.
func (l *lifetimes) snapshot(rng *rand.Rand) {
	err := l.db.View(func(tx *Tx) error {
		var slices []kept
		for range 50 {
			key := lifetimeKey(rng.IntN(lifetimeKeys))
			v, err := tx.Get(key)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err == nil {
				err = checkLife(key, v)
			}
			if err != nil {
				return err
			}
			slices = append(slices, keep(v))
		}
		first, err := iterate(tx)
		if err != nil {
			return err
		}
		for range rng.IntN(4) {
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			again, err := iterate(tx)
			if err != nil {
				return err
			}
			if err := equalStates(first, again); err != nil {
				return err
			}
		}
		for _, k := range append(slices, first...) {
			if !bytes.Equal(k.slice, k.copy) {
				return fmt.Errorf("a slice of a snapshot changed: %.40q, was %.40q", k.slice, k.copy)
			}
		}
		return nil
	})
	l.snapshots.Add(1)
	if err != nil {
		l.report("snapshot: %v", err)
	}
}

// iterate returns and checks the keys and values of a Tx.
func iterate(tx *Tx) (all []kept, err error) {
	for k, v := range tx.All(nil, nil) {
		if err := checkLife(k, v); err != nil {
			return nil, err
		}
		all = append(all, keep(k), keep(v))
	}
	return all, tx.Err()
}

func equalStates(a, b []kept) error {
	if len(a) != len(b) {
		return fmt.Errorf("a snapshot had %d keys and has %d", len(a)/2, len(b)/2)
	}
	for i := range a {
		if !bytes.Equal(a[i].copy, b[i].copy) {
			return fmt.Errorf("a snapshot had %.40q and has %.40q", a[i].copy, b[i].copy)
		}
	}
	return nil
}

// cursor walks back and forth, slowly.
func (l *lifetimes) cursor(rng *rand.Rand) {
	err := l.db.View(func(tx *Tx) error {
		c := tx.Cursor()
		defer c.Close()
		ok := c.Seek(lifetimeKey(rng.IntN(lifetimeKeys)))
		for step := 0; ok && step < 100; step++ {
			if err := checkLife(c.Key(), c.Value()); err != nil {
				return err
			}
			before := keep(c.Key())
			if rng.IntN(3) == 0 {
				ok = c.Prev()
			} else {
				ok = c.Next()
			}
			if step%10 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
			if !bytes.Equal(before.slice, before.copy) {
				return fmt.Errorf("a cursor's key %q became %q", before.copy, before.slice)
			}
		}
		return c.Err()
	})
	if err != nil {
		l.report("cursor: %v", err)
	}
}

// compact moves records and gives the blocks of free slabs back.
func (l *lifetimes) compact(rng *rand.Rand) {
	if err := l.db.Compact(context.Background()); err != nil {
		l.report("compact: %v", err)
	}
	time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
}

// evict evicts all clean frames, like a store that is short of memory.
func (l *lifetimes) evict(rng *rand.Rand) {
	if _, err := l.db.m.Evict(1<<20, nvmap.Eviction{Quiesce: l.db.quiesce}); err != nil {
		l.report("evict: %v", err)
	}
	time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
}

func (l *lifetimes) checkpoint(rng *rand.Rand) {
	if err := l.db.Checkpoint(context.Background()); err != nil {
		l.report("checkpoint: %v", err)
	}
	time.Sleep(time.Duration(rng.IntN(5000)) * time.Microsecond)
}
