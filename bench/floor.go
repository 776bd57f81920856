package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"nvkv/bench/ycsb"
	"nvkv/nvmap"
)

// FloorEngine takes the place of the engine's name for the floors: raw lower bounds of the medium.
const FloorEngine = "floor"

const (
	floorBytes  = 256 << 20 // of the device; more than a core's caches hold
	floorBlock  = 64        // operations between two readings of the clock
	floorClocks = 20_000    // operations timed singly, for the percentiles
	lineBytes   = 64
	floorCount  = 7 // number of floors if the device is mapped
)

// runFloors measures lower bounds that no engine on this medium can beat.
func runFloors(ctx context.Context, job *Job, emit func(event)) error {
	path := filepath.Join(job.Dir, "floor")
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Create: true, MaxBytes: floorBytes})
	if err != nil {
		return fmt.Errorf("floors: %w", err)
	}
	defer dev.Close()
	if err := dev.Grow(floorBytes); err != nil {
		return fmt.Errorf("floors: %w", err)
	}
	f := &floors{ctx: ctx, dev: dev, emit: emit, limit: job.PhaseLimit, rand: rand.New(rand.NewPCG(job.Seed, 1))}
	for _, size := range []int{64, 128, 1024, 4096} {
		if err := f.copyFence(size); err != nil {
			return err
		}
	}
	return errors.Join(f.dependentRead(), f.pwriteSync(filepath.Join(job.Dir, "pwrite"), 128), f.pwriteSync(filepath.Join(job.Dir, "pwrite"), 4096))
}

type floors struct {
	ctx   context.Context
	dev   nvmap.Device
	emit  func(event)
	limit time.Duration
	rand  *rand.Rand
}

// random returns a multiple of align at which size bytes still fit.
func (f *floors) random(align, size int) int64 {
	return f.rand.Int64N((floorBytes-int64(size))/int64(align)) * int64(align)
}

// copyFence stores size bytes at random offsets and makes them durable.
func (f *floors) copyFence(size int) error {
	data := make([]byte, size)
	name := fmt.Sprintf("copy+fence %d B (%s)", size, f.dev.Info().Mover)
	return f.measure(name, size, 1, func() error {
		if err := f.dev.Write(nvmap.Off(f.random(lineBytes, size)), data); err != nil {
			return err
		}
		return f.dev.Fence()
	})
}

// dependentRead follows a chain of pointers through the device's mapping. Each read waits for the
// previous one, as in a descent of a tree.
func (f *floors) dependentRead() error {
	mapping := f.dev.Mapping()
	if mapping == nil {
		return nil // not mapped: there is no such floor
	}
	if err := f.layChain(); err != nil {
		return err
	}
	base, at := unsafe.Pointer(unsafe.SliceData(mapping)), uint64(0)
	return f.measure(fmt.Sprintf("dependent read, %d MiB", floorBytes>>20), 0, 0, func() error {
		at = *(*uint64)(unsafe.Add(base, at)) // every link lies on the device: layChain wrote it
		return nil
	})
}

// layChain writes one cycle through all lines of the device, in random order.
func (f *floors) layChain() error {
	lines := floorBytes / lineBytes
	next := make([]uint32, lines)
	for i := range next {
		next[i] = uint32(i)
	}
	for i := lines - 1; i > 0; i-- { // Sattolo: a single cycle
		j := f.rand.IntN(i)
		next[i], next[j] = next[j], next[i]
	}
	const chunkLines = 16384
	chunk := make([]byte, chunkLines*lineBytes)
	for from := 0; from < lines; from += chunkLines {
		for i := range chunkLines {
			binary.NativeEndian.PutUint64(chunk[i*lineBytes:], uint64(next[from+i])*lineBytes)
		}
		if err := f.dev.Write(nvmap.Off(from*lineBytes), chunk); err != nil {
			return err
		}
	}
	return f.dev.Fence()
}

// pwriteSync overwrites size bytes of a file through the kernel and syncs.
func (f *floors) pwriteSync(path string, size int) (err error) {
	const fileBytes = 64 << 20
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	if err := fillFile(file, fileBytes); err != nil {
		return err
	}
	data := make([]byte, size)
	return f.measure(fmt.Sprintf("pwrite+fdatasync %d B", size), size, 1, func() error {
		if _, err := file.WriteAt(data, f.rand.Int64N(fileBytes/4096)*4096); err != nil {
			return err
		}
		return dataSync(file)
	})
}

func fillFile(file *os.File, size int) error {
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		if _, err := file.Write(zeros); err != nil {
			return err
		}
	}
	return file.Sync()
}

// measure times op twice: in blocks, for the rate, and singly, for the percentiles, which therefore
// include a reading of the clock.
func (f *floors) measure(name string, bytes, fences int, op func() error) error {
	f.emit(event{Progress: &Progress{Engine: FloorEngine, Step: name}})
	limit := f.limit
	if limit == 0 {
		limit = time.Second
	}
	load, start := startLoad(), time.Now()
	ops := 0
	for ; time.Since(start) < limit; ops += floorBlock {
		for range floorBlock {
			if err := op(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := context.Cause(f.ctx); err != nil {
			return err
		}
	}
	elapsed := time.Since(start)
	r := Run{
		Engine: FloorEngine, Workload: name, Phase: "floor", Threads: 1, Ops: uint64(ops),
		OpsPerS: float64(ops) / elapsed.Seconds(), Seconds: elapsed.Seconds(),
		UserBytes: uint64(ops * bytes), MediaBytes: uint64(ops * bytes), Fences: uint64(ops * fences), ValueBytes: bytes,
	}
	load.into(&r)
	var one latencies
	for start, n := time.Now(), 0; n < floorClocks && time.Since(start) < limit; n++ {
		began := time.Now()
		if err := op(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		one.record(ycsb.Update, time.Since(began))
	}
	one.into(&r)
	r.Kinds = nil
	f.emit(event{Run: &r})
	return nil
}
