package nvmap

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// memDevice is anonymous memory. It serves tests, and stores that need not outlive the process.
type memDevice struct {
	r      *region
	asked  int64
	limit  int64 // bound of Grow, in bytes
	size   atomic.Int64
	mu     sync.Mutex // guards Grow against Close
	closed atomic.Bool
}

// NewMem returns an empty device in anonymous memory that can grow to maxBytes, in whole pages (0:
// the largest size that the system grants, at most 1 TiB, or 16 GiB in race builds). It takes
// address space for that, and memory for the pages that were written to. On systems without mmap
// the memory comes from the Go heap, as a whole; its bound is 256 MiB, or maxBytes if that is
// larger, and at most 1 GiB. NewMem panics only if not even 1 MiB of address space can be reserved.
func NewMem(maxBytes int64) Device {
	d, err := newMem(maxBytes)
	if err != nil {
		panic(err)
	}
	return d
}

func newMem(maxBytes int64) (Device, error) {
	r, err := memory(regionSize(maxBytes, onHeap()))
	if err != nil {
		return nil, err
	}
	d := &memDevice{r: r, asked: maxBytes, limit: exactly(maxBytes, r.bytes, PageBytes)}
	runtime.AddCleanup(d, (*region).release, r)
	return d, nil
}

func (d *memDevice) Info() Info {
	return Info{
		Kind:     "mem",
		Why:      "asked for",
		Mapped:   true,
		Volatile: true,
		Domain:   "the memory of this process; nothing outlives it",
		Mover:    "copy",
		Unit:     1,
		Sector:   8,
		MaxBytes: d.limit,
		Scant:    scant(d.asked, d.limit, PageBytes),
		Protect:  "none",
	}
}

func (d *memDevice) Size() int64 { return d.size.Load() }

func (d *memDevice) Mapping() []byte { return d.r.slice(0, d.limit) }

func (d *memDevice) Grow(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	from := d.size.Load()
	if size <= from {
		return nil
	}
	if size > d.limit {
		return fmt.Errorf("%w: mem device of at most %d bytes cannot grow to %d", ErrFull, d.limit, size)
	}
	to := roundUp(size, PageBytes)
	if err := d.r.open(from, to); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	d.size.Store(to)
	return nil
}

func (d *memDevice) Read(off Off, p []byte) error {
	if err := d.check("read", off, int64(len(p))); err != nil {
		return err
	}
	copy(p, d.r.slice(int64(off), int64(off)+int64(len(p))))
	return nil
}

func (d *memDevice) Write(off Off, p []byte) error {
	if err := d.check("write", off, int64(len(p))); err != nil {
		return err
	}
	copy(d.r.slice(int64(off), int64(off)+int64(len(p))), p)
	return nil
}

func (d *memDevice) Fence() error {
	if d.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Discard gives whole pages back to the system. They then read as zero.
func (d *memDevice) Discard(off Off, n int64) error {
	if err := d.check("discard", off, n); err != nil {
		return err
	}
	if from, to := inward(off, n, PageBytes); from < to {
		return d.r.drop(from, to)
	}
	return nil
}

func (d *memDevice) Allocate(off Off, n int64) error {
	return d.check("allocate", off, n)
}

// Close sets the size to zero, so that later calls are out of range, and makes the mapping fault.
func (d *memDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed.Swap(true) {
		d.size.Store(0)
		d.r.seal()
	}
	return nil
}

// check returns an error if [off, off+n) cannot be used.
func (d *memDevice) check(op string, off Off, n int64) error {
	err := checkRange(op, off, n, d.size.Load())
	if err != nil && d.closed.Load() {
		return ErrClosed
	}
	return err
}
