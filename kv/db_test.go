package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nvkv/internal/effort"
)

// testDir returns a directory that is removed after the test, on emulated NVM if there is any, so
// that fences are cheap.
func testDir(t testing.TB) string {
	t.Helper()
	const shm = "/dev/shm"
	if i, err := os.Stat(shm); err != nil || !i.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "nvkv-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// openTest opens a store at path. After the test it checks and closes the store.
func openTest(t testing.TB, path string, o *Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !db.closed.Load() {
			mustCheck(t, db)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func mustCheck(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Check(context.Background(), func(i CheckIssue) { t.Errorf("check: %v", i) }); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestPutGetDelete(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	if _, err := db.Get([]byte("a")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Get of an absent key: %v", err)
	}
	if err := db.Put([]byte("a"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	if v, err := db.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("Get = %q, %v", v, err)
	}
	if err := db.Delete([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if ok, err := db.Has([]byte("a")); ok || err != nil {
		t.Fatalf("Has after Delete = %v, %v", ok, err)
	}
}

// model is the contents that a store must have.
type model map[string]string

func (m model) keys() []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// compare fails unless db holds exactly m, by Get, by both iterations and by
// scans.
func (m model) compare(t testing.TB, db *DB) {
	t.Helper()
	ks := m.keys()
	err := db.View(func(tx *Tx) error {
		i := 0
		for k, v := range tx.All(nil, nil) {
			if i >= len(ks) || string(k) != ks[i] || string(v) != m[ks[i]] {
				return fmt.Errorf("All: entry %d is %.40q (%d bytes), %d keys expected", i, k, len(v), len(ks))
			}
			i++
		}
		if tx.Err() != nil || i != len(ks) {
			return fmt.Errorf("All: %d entries of %d, %v", i, len(ks), tx.Err())
		}
		for k, v := range tx.Backward(nil, nil) {
			if i--; i < 0 || string(k) != ks[i] || string(v) != m[ks[i]] {
				return fmt.Errorf("Backward: entry %d is %.40q", i, k)
			}
		}
		if tx.Err() != nil || i != 0 {
			return fmt.Errorf("Backward: %d entries left, %v", i, tx.Err())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range ks {
		if v, err := db.Get([]byte(k)); err != nil || string(v) != m[k] {
			t.Fatalf("Get(%.40q) = %d bytes, %v; want %d bytes", k, len(v), err, len(m[k]))
		}
	}
	m.scans(t, db, ks)
}

// TestModelRandom compares random operations of all kinds with a map, with checkpoints, snapshots
// and reopening among them.
func TestModelRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { modelRun(t, seed, effort.Pick(1000, 1000, 4000, 4000)) })
	}
}

func modelRun(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	path := filepath.Join(testDir(t), "s")
	opt := &Options{SlabBytes: 4096 << (seed % 5), privateFrom: []int{32, 0}[seed%2], lateFrom: []int{0, 1}[seed%2]}
	db := openTest(t, path, opt)
	defer func() { db.Close() }()
	m := model{}
	type snap struct {
		tx *Tx
		m  model
	}
	var snaps []snap
	closeSnap := func(i int) {
		s := snaps[i]
		n := 0
		for k, v := range s.tx.All(nil, nil) {
			if w, ok := s.m[string(k)]; !ok || w != string(v) {
				t.Fatalf("snapshot: %q moved", clip(k))
			}
			n++
		}
		if n != len(s.m) || s.tx.Err() != nil {
			t.Fatalf("snapshot: %d of %d keys, %v", n, len(s.m), s.tx.Err())
		}
		if err := s.tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		snaps = slices.Delete(snaps, i, i+1)
	}
	key := func() []byte {
		switch rng.IntN(20) {
		case 0:
			return bytes.Repeat([]byte{byte('a' + rng.IntN(3))}, rng.IntN(3000))
		case 1:
			k := bytes.Repeat([]byte("long"), 300+rng.IntN(3))
			return append(k, byte(rng.IntN(6)))
		}
		return fmt.Appendf(nil, "user%06d", rng.IntN(900))
	}
	value := func() []byte {
		n := rng.IntN(200)
		switch rng.IntN(40) {
		case 0:
			n = rng.IntN(100000)
		case 1, 2:
			n = rng.IntN(6000)
		}
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		return v
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for step := range steps {
		switch r := rng.IntN(1000); {
		case r < 600:
			k, v := key(), value()
			must(db.Put(k, v))
			m[string(k)] = string(v)
		case r < 850:
			k := key()
			must(db.Delete(k))
			delete(m, string(k))
		case r < 960:
			b := db.NewBatch()
			for range 1 + rng.IntN(80) {
				k := key()
				if rng.IntN(3) == 0 {
					b.Delete(k)
					delete(m, string(k))
				} else {
					v := value()
					b.Put(k, v)
					m[string(k)] = string(v)
				}
			}
			must(db.Write(b))
		case r < 975:
			must(db.Checkpoint(context.Background()))
		case r < 985 && len(snaps) < 4:
			tx, err := db.Begin(false)
			must(err)
			c := model{}
			for k, v := range m {
				c[k] = v
			}
			snaps = append(snaps, snap{tx, c})
		case r < 995 && len(snaps) > 0:
			closeSnap(rng.IntN(len(snaps)))
		case r >= 995:
			for len(snaps) > 0 {
				closeSnap(0)
			}
			mustCheck(t, db)
			must(db.Close())
			var err error
			db, err = Open(path, opt)
			must(err)
			m.compare(t, db)
		}
		if step%200 == 0 {
			mustCheck(t, db)
			m.compare(t, db)
		}
		if t.Failed() {
			t.Fatalf("step %d", step)
		}
	}
	for len(snaps) > 0 {
		closeSnap(0)
	}
	mustCheck(t, db)
	m.compare(t, db)
}

// inBatches calls fn to fill batches for 0 to n-1, and writes them.
func inBatches(t testing.TB, db *DB, n int, fn func(*Batch, int)) {
	t.Helper()
	b := db.NewBatch()
	for i := range n {
		if fn(b, i); b.Len() < 100 && i+1 < n {
			continue
		}
		if err := db.Write(b); err != nil {
			t.Fatal(err)
		}
		b.Reset()
	}
}

// fillRandom puts n keys with values of about size bytes in random order and returns the contents.
func fillRandom(t testing.TB, db *DB, n, size int, seed uint64) model {
	t.Helper()
	if raceBuild {
		n /= 4
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	m := model{}
	b := db.NewBatch()
	for at, i := range rng.Perm(n) {
		k, v := fmt.Sprintf("key/%07d", i), strings.Repeat("v", size/2+rng.IntN(size))
		m[k] = v
		if b.Put([]byte(k), []byte(v)); at%50 < 49 && at+1 < n {
			continue
		}
		if err := db.Write(b); err != nil {
			t.Fatal(err)
		}
		b.Reset()
	}
	return m
}

func fromEnv(t testing.TB, name string, otherwise int64) int64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
