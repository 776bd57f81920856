package kv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// memoryChild names which of the tests below runs in a child process. In a shared process the
// memory of other tests would count.
const memoryChild = "NVKV_TEST_MEMORY"

// anonBytes returns the anonymous memory of this process in RAM.
func anonBytes(t testing.TB) int64 {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		effort.NotTested(t, "%v", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(s.Text(), "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	effort.NotTested(t, "the kernel does not say")
	return 0
}

// alone runs the calling test in a child process. It returns false in the parent, which only waits.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(memoryChild) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), memoryChild+"="+t.Name())
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// TestMemoryBound opens a store whose index is many times larger than CacheBytes, reads and updates
// it, recovers it, and measures the memory of the process all the time.
func TestMemoryBound(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("some seconds")
	}
	if !alone(t) {
		return
	}
	debug.SetGCPercent(20)
	debug.SetMemoryLimit(24 << 20)
	const keys, value = 400_000, 200
	path := filepath.Join(testDir(t), "s")
	o := &Options{CacheBytes: MinCacheBytes, CheckpointBytes: 4 << 20}
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { db.Close() }()
	// Memory other than pages: the runtime, slab tables, a batch.
	const margin = 64 << 20
	worst := int64(0)
	look := func(what string) {
		t.Helper()
		bounded(t, db)
		rss := anonBytes(t)
		if worst = max(worst, rss); rss > MinCacheBytes+margin {
			t.Errorf("%s: %d MiB of anonymous memory", what, rss>>20)
		}
	}
	v := bytes.Repeat([]byte("v"), value)
	b := db.NewBatch()
	for i := range keys {
		b.Put(fmt.Appendf(nil, "key%09d", i), v)
		if b.Len() == 200 {
			if err := db.Write(b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
			if i%100_000 == 99_999 {
				look("loading")
			}
		}
	}
	if size := db.Metrics().LiveBytes; size < 20*MinCacheBytes {
		t.Errorf("a store of %d bytes is not 20 times the cache", size)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 2 {
		for i := range 60_000 {
			k := fmt.Appendf(nil, "key%09d", rng.IntN(keys))
			var err error
			if i%3 == 0 {
				err = db.Put(k, v)
			} else {
				_, err = db.Get(k)
			}
			if err != nil {
				t.Fatal(err)
			}
			if i%10_000 == 0 {
				look("reading and updating")
			}
		}
		if round == 0 {
			abandon(db)
		} else if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db, err = Open(path, o); err != nil {
			t.Fatal(err)
		}
		look("opened")
	}
	m := db.Metrics()
	t.Logf("%d MiB of live bytes, %d MiB of cache: at most %d MiB of anonymous memory", m.LiveBytes>>20, MinCacheBytes>>20, worst>>20)
}

// TestHugeSparseMap opens a map of 1 TiB and uses single pages of it.
func TestHugeSparseMap(t *testing.T) {
	skipInRace(t)
	if !alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil {
		effort.NotTested(t, "%v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := anonBytes(t)
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := nvmap.NewMap(dev, &nvmap.MapOptions{CacheBytes: 1 << 20, Mode: nvmap.Cached})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	opened := anonBytes(t) - before
	var b [8]byte
	for i := range nvmap.Off(256) {
		if err := m.Load(i<<32, b[:]); err != nil {
			t.Fatal(err)
		}
	}
	used := anonBytes(t) - before
	t.Logf("%d KiB to open %d GiB, %d KiB with 256 pages read", opened>>10, m.Size()>>30, used>>10)
	if opened > 16<<20 || used > 16<<20 {
		t.Error("more than 16 MiB")
	}
}

// TestLargeValue takes a value of 64 MiB through all operations and counts the allocated bytes, in
// multiples of its size. In the plain form the value has 16 MiB; NVKV_VALUE_BYTES sets another
// size, up to 1 GiB.
func TestLargeValue(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("a second, and gigabytes in its long form")
	}
	if !alone(t) {
		return
	}
	size := int(fromEnv(t, "NVKV_VALUE_BYTES", effort.Pick[int64](16<<20, 16<<20, 64<<20, 64<<20)))
	key, value := []byte("large"), make([]byte, size)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(value[i:], rng.Uint64())
	}
	dir := testDir(t)
	path := filepath.Join(dir, "s")
	db := openTest(t, path, nil)
	allocs := func(what string, most float64, fn func() ([]byte, error)) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := fn()
		runtime.ReadMemStats(&after)
		must(t, err)
		if got != nil && !bytes.Equal(got, value) {
			t.Errorf("%s: another value, of %d bytes", what, len(got))
		}
		sizes := (float64(after.TotalAlloc-before.TotalAlloc) - 2<<20) / float64(size)
		t.Logf("%s allocates %.2f times the value", what, max(sizes, 0))
		if sizes > most {
			t.Errorf("%s allocates more than %.1f times the value", what, most)
		}
	}
	get := func(db *DB) func() ([]byte, error) { return func() ([]byte, error) { return db.Get(key) } }
	allocs("Put", 0.1, func() ([]byte, error) { return nil, db.Put(key, value) })
	allocs("Get", 1.1, get(db))
	dst := make([]byte, 0, size)
	allocs("GetAppend with room", 0.1, func() ([]byte, error) { return db.GetAppend(dst, key) })
	allocs("Tx.Get", 1.1, func() (got []byte, err error) {
		err = db.View(func(tx *Tx) error {
			v, err := tx.Get(key)
			got = append(dst[:0], v...)
			return err
		})
		return got, err
	})
	allocs("Backup and Restore", 5, func() ([]byte, error) {
		r, w := io.Pipe()
		go func() {
			_, err := db.Backup(context.Background(), w)
			w.CloseWithError(err)
		}()
		return nil, Restore(context.Background(), filepath.Join(dir, "restored"), r, nil)
	})
	allocs("Get of the restored", 1.1, get(openTest(t, filepath.Join(dir, "restored"), nil)))
	abandon(db)
	db = openTest(t, path, nil)
	allocs("Get after a crash", 1.1, get(db))
	mustCheck(t, db)
	must(t, db.Delete(key))
	must(t, db.Compact(t.Context()))
	if m := db.Metrics(); m.UsedBytes > int64(size)/10 {
		t.Errorf("%d bytes in use after the value was deleted", m.UsedBytes)
	}
}

// TestMemoryOfLargePuts puts a large value in every way and measures the memory of the process
// meanwhile. A Put takes nothing besides the caller's value; a batch and a Tx take a copy, as they
// promise.
func TestMemoryOfLargePuts(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("values of 256 MiB")
	}
	if !alone(t) {
		return
	}
	size := fromEnv(t, "NVKV_VALUE_BYTES", effort.Pick[int64](64<<20, 64<<20, 256<<20, 256<<20))
	value, key := make([]byte, size), []byte("large")
	for i := range value {
		value[i] = byte(i >> 8)
	}
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	batch := func(ranges bool) error {
		b := db.NewBatch()
		if ranges {
			b.DeleteRange([]byte("x"), nil)
		}
		b.Put(key, value)
		return db.Write(b)
	}
	for _, c := range []struct {
		name   string
		copies float64 // with the caller's own
		put    func() error
	}{
		{"Put", 1, func() error { return db.Put(key, value) }},
		{"Put over it", 1, func() error { return db.Put(key, value) }},
		{"Tx.Put", 2, func() error { return db.Update(func(tx *Tx) error { return tx.Put(key, value) }) }},
		{"Batch", 2, func() error { return batch(false) }},
		{"Batch with a range", 2, func() error { return batch(true) }},
	} {
		debug.FreeOSMemory()
		done, most := make(chan error), int64(0)
		go func() { done <- c.put() }()
		for err, running := error(nil), true; running; {
			select {
			case err = <-done:
				must(t, err)
				running = false
			default:
				most = max(most, anonBytes(t))
				time.Sleep(time.Millisecond)
			}
		}
		t.Logf("%s: %.2f times the value", c.name, float64(most)/float64(size))
		if bound := int64(c.copies*float64(size)) + size/8 + 32<<20; most > bound {
			t.Errorf("%s: %d bytes of memory, more than %d", c.name, most, bound)
		}
	}
}
