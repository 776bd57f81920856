package compat_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"nvkv/compat"
	"nvkv/nvmap"
)

// These benchmarks compare the engines with one another and with the lower bound of a durable put,
// in one run:
//
//	go test ./compat -run '^$' -bench Durable -benchtime 2s -count 5
//
// They put 1,000,000 records with 23-byte keys in hash order and 100-byte values, each durable,
// from one goroutine. NVKV_BENCH_RECORDS changes the number, and NVKV_BENCH_DIR the directory. The
// default is /dev/shm: emulated, volatile NVM. `nvkv bench` measures the same in fresh processes,
// with latencies.
var benchEngines = []string{"nvkv", "bbolt", "pebble"}

const (
	benchValueBytes = 100
	benchBatch      = 1000
	benchOps        = 1 << 20
)

func benchRecords(b *testing.B) int {
	v := os.Getenv("NVKV_BENCH_RECORDS")
	if v == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		b.Fatalf("NVKV_BENCH_RECORDS is %q, not a number of records", v)
	}
	return n
}

func benchDir(b *testing.B) string {
	parent := os.Getenv("NVKV_BENCH_DIR")
	if parent == "" {
		if _, err := os.Stat("/dev/shm"); err == nil {
			parent = "/dev/shm"
		}
	}
	dir, err := os.MkdirTemp(parent, "nvkv-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func benchKey(i int) []byte {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(i)))
	return fmt.Appendf(nil, "user%019d", h.Sum64()&(1<<63-1))
}

// benchKeys returns n adjacent keys, so that fetching the next one costs the timed loop almost
// nothing.
func benchKeys(n int, index func(i int) int) func() []byte {
	size := len(benchKey(0))
	flat := make([]byte, 0, n*size)
	for i := range n {
		flat = append(flat, benchKey(index(i))...)
	}
	at := 0
	return func() []byte {
		if at == len(flat) {
			at = 0
		}
		at += size
		return flat[at-size : at]
	}
}

func randomKeys(records int) func() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	return benchKeys(min(benchOps, records), func(int) int { return rng.IntN(records) })
}

func openBench(b *testing.B, name string, records int) compat.Engine {
	e, err := compat.Open(name, benchDir(b), compat.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	next := benchKeys(records, func(i int) int { return i })
	value := make([]byte, benchValueBytes)
	ops := make([]compat.Op, 0, benchBatch)
	for i := range records {
		ops = append(ops, compat.Op{Key: next(), Value: value})
		if len(ops) == benchBatch || i == records-1 {
			if err := e.WriteBatch(ops); err != nil {
				b.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	return e
}

// BenchmarkDurableLoad stores new records one by one in an empty store.
func BenchmarkDurableLoad(b *testing.B) {
	for _, name := range benchEngines {
		b.Run(name, func(b *testing.B) {
			next := benchKeys(benchRecords(b), func(i int) int { return i })
			e := openBench(b, name, 0)
			value := make([]byte, benchValueBytes)
			for b.Loop() {
				if err := e.Put(next(), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor", benchFloor)
}

// BenchmarkDurableUpdate replaces the values of random keys of a full store.
func BenchmarkDurableUpdate(b *testing.B) {
	for _, name := range benchEngines {
		b.Run(name, func(b *testing.B) {
			n := benchRecords(b)
			e := openBench(b, name, n)
			next := randomKeys(n)
			value := make([]byte, benchValueBytes)
			for b.Loop() {
				if err := e.Put(next(), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor", benchFloor)
}

// BenchmarkDurableGet reads random keys of a full store.
func BenchmarkDurableGet(b *testing.B) {
	for _, name := range benchEngines {
		b.Run(name, func(b *testing.B) {
			n := benchRecords(b)
			e := openBench(b, name, n)
			next := randomKeys(n)
			var dst []byte
			var err error
			for b.Loop() {
				if dst, err = e.Get(dst[:0], next()); err != nil || len(dst) != benchValueBytes {
					b.Fatalf("%d bytes, %v", len(dst), err)
				}
			}
		})
	}
}

// benchFloor writes as many bytes as a record has to the medium and fences.
func benchFloor(b *testing.B) {
	dev, err := nvmap.OpenDevice(benchDir(b)+"/floor", nvmap.OpenOptions{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	const size, record = 256 << 20, 144
	if err := dev.Grow(size); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, record)
	off := nvmap.Off(0)
	for b.Loop() {
		if err := dev.Write(off, p); err != nil {
			b.Fatal(err)
		}
		if err := dev.Fence(); err != nil {
			b.Fatal(err)
		}
		if off += record; off > size-record {
			off = 0
		}
	}
}
