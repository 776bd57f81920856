package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"nvkv/nvmap"
)

// The benchmarks use 23-byte keys in hash order and 100-byte values, like YCSB with small records.
// NVKV_BENCH_RECORDS sets the number of records (100,000), NVKV_BENCH_DIR the directory. Without it
// they use /dev/shm: emulated NVM, volatile.
const benchValueBytes = 100

func benchRecords() int {
	if n, err := strconv.Atoi(os.Getenv("NVKV_BENCH_RECORDS")); err == nil && n > 0 {
		return n
	}
	return 100_000
}

func benchKey(dst []byte, i int) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	h := fnv.New64a()
	h.Write(b[:])
	return fmt.Appendf(dst[:0], "user%019d", h.Sum64()&(1<<63-1))
}

func benchKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = benchKey(nil, i)
	}
	return keys
}

// benchOrder returns the keys of n random operations from adjacent memory, so that fetching a key
// costs the timed loop next to nothing.
func benchOrder(keys [][]byte, n int) func() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	flat := make([]byte, 0, n*len(keys[0]))
	for range n {
		flat = append(flat, keys[rng.IntN(len(keys))]...)
	}
	at, size := 0, len(keys[0])
	return func() []byte {
		if at == len(flat) {
			at = 0
		}
		at += size
		return flat[at-size : at]
	}
}

const benchOps = 1 << 20

func benchDir(b *testing.B) string {
	if d := os.Getenv("NVKV_BENCH_DIR"); d != "" {
		dir, err := os.MkdirTemp(d, "nvkv-bench-")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return testDir(b)
}

func loadBench(b *testing.B, keys [][]byte) *DB {
	b.Helper()
	db, err := Open(filepath.Join(benchDir(b), "s"), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	value := make([]byte, benchValueBytes)
	for _, k := range keys {
		if err := db.Put(k, value); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

// BenchmarkLoad stores new keys one by one, each durable.
func BenchmarkLoad(b *testing.B) {
	keys := benchKeys(benchRecords())
	value := make([]byte, benchValueBytes)
	var db *DB
	i := 0
	for b.Loop() {
		if i%len(keys) == 0 {
			b.StopTimer()
			if db != nil {
				db.Close()
			}
			db = loadBench(b, nil)
			b.StartTimer()
		}
		if err := db.Put(keys[i%len(keys)], value); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkUpdate replaces the values of random keys.
func BenchmarkUpdate(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	value := make([]byte, benchValueBytes)
	next := benchOrder(keys, benchOps)
	for b.Loop() {
		if err := db.Put(next(), value); err != nil {
			b.Fatal(err)
		}
	}
	m := db.Metrics()
	b.ReportMetric(m.WriteAmp, "media/user")
	b.ReportMetric(float64(m.Fences)/float64(m.Commits), "fences/commit")
}

// BenchmarkGet reads random existing keys.
func BenchmarkGet(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	next := benchOrder(keys, benchOps)
	var dst []byte
	var err error
	for b.Loop() {
		if dst, err = db.GetAppend(dst[:0], next()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGetMiss looks up absent keys.
func BenchmarkGetMiss(b *testing.B) {
	keys := benchKeys(2 * benchRecords())
	db := loadBench(b, keys[:len(keys)/2])
	next := benchOrder(keys[len(keys)/2:], benchOps)
	for b.Loop() {
		if ok, err := db.Has(next()); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkScan walks all records and reads every byte, for records that were loaded in the order
// of their keys and in random order.
func BenchmarkScan(b *testing.B) {
	for _, order := range []string{"random", "ordered"} {
		b.Run(order, func(b *testing.B) {
			keys := benchKeys(benchRecords())
			if order == "ordered" {
				slices.SortFunc(keys, bytes.Compare)
			}
			db := loadBench(b, keys)
			for b.Loop() {
				if err := db.Scan(nil, nil, -1, sumRecord); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/record")
		})
	}
}

// sumRecord reads every byte of a record, eight at a time.
func sumRecord(key, value []byte) bool {
	sum := uint64(0)
	for _, p := range [2][]byte{key, value} {
		for ; len(p) >= 8; p = p[8:] {
			sum += binary.LittleEndian.Uint64(p)
		}
		for _, c := range p {
			sum += uint64(c)
		}
	}
	sink += sum
	return true
}

var sink uint64

// BenchmarkBatch replaces the values of random keys, some number of them with one fence. ns/op is
// for one record.
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000, 10_000, 100_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			keys := benchKeys(benchRecords())
			db := loadBench(b, keys)
			value := make([]byte, benchValueBytes)
			next := benchOrder(keys, benchOps)
			batch := db.NewBatch()
			for b.Loop() {
				if batch.Put(next(), value); batch.Len() < size {
					continue
				}
				if err := db.Write(batch); err != nil {
					b.Fatal(err)
				}
				batch.Reset()
			}
		})
	}
}

// BenchmarkFloor is a lower bound for a put: copying a record's bytes to the medium, one record
// after the other, and a fence.
func BenchmarkFloor(b *testing.B) {
	dev, err := nvmap.OpenDevice(filepath.Join(benchDir(b), "f"), nvmap.OpenOptions{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	const size = 256 << 20
	if err := dev.Grow(size); err != nil {
		b.Fatal(err)
	}
	rec := make([]byte, 144)
	off := nvmap.Off(0)
	for b.Loop() {
		if err := dev.Write(off, rec); err != nil {
			b.Fatal(err)
		}
		if err := dev.Fence(); err != nil {
			b.Fatal(err)
		}
		if off += 144; off > size-144 {
			off = 0
		}
	}
}

// BenchmarkUpdateParallel is BenchmarkUpdate from GOMAXPROCS goroutines. Operations that queue
// during a commit are committed together.
func BenchmarkUpdateParallel(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	value := make([]byte, benchValueBytes)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		next := benchOrder(keys, 1<<16)
		for pb.Next() {
			if err := db.Put(next(), value); err != nil {
				b.Error(err)
				return
			}
		}
	})
	m := db.Metrics()
	b.ReportMetric(float64(m.Puts)/float64(m.Commits), "puts/commit")
}

// BenchmarkScan50 reads 50 records from a random key on, at one instant. ns/op is for the whole
// scan.
func BenchmarkScan50(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	next := benchOrder(keys, 1<<16)
	for b.Loop() {
		if err := db.Scan(next(), nil, 50, sumRecord); err != nil {
			b.Fatal(err)
		}
	}
}
