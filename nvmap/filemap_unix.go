//go:build unix

package nvmap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fileMap is what the kinds over a file share: the file, its lock, readers'
// mapping of it, and growth.
type fileMap struct {
	f    *os.File
	path string
	why  string
	ro   bool
	unit int64 // granularity of blocks and mappings: PageBytes, or a huge page

	view  *region // PROT_READ, unless protection is off
	alias *region // PROT_WRITE, for the one routine that stores; nil where none does

	mover  mover // what stores through the alias
	stored bool  // there is, or will be, an alias

	protectionState

	size     atomic.Int64 // usable, whole pages
	end      atomic.Int64 // bytes the file really has: writes stop here
	openSize int64        // of the file when opened; reading [openSize, size) gives zeros

	mu      sync.Mutex // guards Grow, Close and publish
	closed  atomic.Bool
	entered bool // the directory entry is durable
}

// newFileDevice makes a device of an open, locked file.
func newFileDevice(f *os.File, path string, o OpenOptions) (Device, error) {
	fs, err := fileSystem(f)
	if err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", path, err)
	}
	kind, why := o.Kind, "asked for"
	if kind == "" {
		kind, why = "file", "a file on "+fs.name
		if fs.memory {
			kind = "shm"
		}
	}
	if kind == "shm" && !shmSupported {
		return nil, fmt.Errorf("nvmap: %s: device kind \"shm\" needs Linux: %w", path, errors.ErrUnsupported)
	}
	if kind == "shm" && !fs.memory {
		why += fmt.Sprintf("; %s is not memory, and a fence here does not reach its disk", fs.name)
	}
	mv, err := moverNamed(o.Mover)
	if err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", path, err)
	}
	fm := &fileMap{f: f, path: path, why: why, ro: o.ReadOnly, unit: fs.unit}
	if kind == "shm" {
		fm.mover, fm.stored = mv, !o.ReadOnly
	}
	if err := errors.Join(fm.SetProtection(o.Protect), fm.open(o.MaxBytes, fm.stored)); err != nil {
		fm.release()
		return nil, fmt.Errorf("nvmap: %s: %w", path, err)
	}
	if kind == "shm" {
		return newShm(fm), nil
	}
	return newFile(fm), nil
}

// open reserves the mappings and maps what the file has.
func (d *fileMap) open(maxBytes int64, writable bool) error {
	fi, err := d.f.Stat()
	if err != nil {
		return err
	}
	d.openSize = fi.Size()
	size := roundUp(d.openSize, d.unit)
	align := max(d.unit, hugeBytes)
	if maxBytes == 0 && heapOnly {
		maxBytes = heapBytes // a mirror on the Go heap could not follow further
	}
	if maxBytes > 0 || size > maxBytesDefault {
		maxBytes = max(maxBytes, size) // a bound below what is there would shut it out
	}
	if d.view, err = reserve(regionSize(maxBytes, false), align); err != nil {
		return err
	}
	if writable {
		if d.alias, err = reserve(d.view.bytes, align); err != nil {
			return err
		}
	}
	if size > d.maxBytes() {
		return fmt.Errorf("a file of %d bytes does not fit the %d bytes of address space granted", d.openSize, d.maxBytes())
	}
	if err := d.mapRange(0, size); err != nil {
		return err
	}
	d.size.Store(size)
	d.end.Store(d.openSize)
	return nil
}

func (d *fileMap) maxBytes() int64 {
	if d.alias != nil {
		return min(d.view.bytes, d.alias.bytes)
	}
	return d.view.bytes
}

// mapRange maps file bytes [from, to) for readers and for the store routine.
func (d *fileMap) mapRange(from, to int64) error {
	if err := d.view.mapFile(int(d.f.Fd()), from, to, d.Protection() == ProtectNone); err != nil {
		return err
	}
	if d.alias == nil {
		return nil
	}
	if err := d.alias.mapFile(int(d.f.Fd()), from, to, true); err != nil {
		return err
	}
	if k := d.pkey(); k != 0 {
		return d.alias.guard(from, to, k)
	}
	return nil
}

// populateRange enters a range that has blocks into both page tables, where
// there are both. A file that is written with system calls gets none of it: its
// pages would fill the page cache before anybody needs them, and the kernel maps
// the neighbours of a page that is read.
func (d *fileMap) populateRange(from, to int64) {
	if d.alias != nil {
		d.pkey().while(func() { d.alias.populate(from, to, true) })
		d.view.populate(from, to, false)
	}
}

func (d *fileMap) Size() int64 { return d.size.Load() }

func (d *fileMap) Mapping() []byte { return d.view.slice(0, d.maxBytes()) }

// Grow allocates blocks beyond the end, then makes them part of the file, then
// maps them. A step that fails undoes the ones before.
func (d *fileMap) Grow(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := d.end.Load()
	switch {
	case d.closed.Load():
		return ErrClosed
	case size <= from:
		return nil
	case d.ro:
		return fmt.Errorf("%w: %s", ErrReadOnly, d.path)
	case size > d.maxBytes():
		return fmt.Errorf("%w: %s: the address space reserved holds %d bytes, not %d", ErrFull, d.path, d.maxBytes(), size)
	}
	to := roundUp(size, d.unit)
	if err := d.extend(from, to); err != nil {
		d.shrink(from)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			return fmt.Errorf("%w: %s: growing from %d to %d bytes: %w", ErrFull, d.path, from, to, err)
		}
		return fmt.Errorf("nvmap: %s: growing from %d to %d bytes: %w", d.path, from, to, err)
	}
	d.end.Store(to)
	d.size.Store(to)
	return nil
}

func (d *fileMap) extend(from, to int64) error {
	if err := allocateBlocks(d.f, from, to-from); err != nil {
		return err
	}
	if err := d.f.Truncate(to); err != nil {
		return err
	}
	if err := d.f.Sync(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	// From a whole page: the one that held the old end is mapped already, and
	// mapping it again at the same place is harmless.
	if err := d.mapRange(from&^(d.unit-1), to); err != nil {
		return err
	}
	d.populateRange(from&^(d.unit-1), to)
	return nil
}

// shrink undoes a failed extend; blocks beyond the end go with it.
func (d *fileMap) shrink(size int64) {
	if d.view.hide(roundUp(size, d.unit), d.maxBytes()) == nil && d.alias != nil {
		_ = d.alias.hide(roundUp(size, d.unit), d.maxBytes())
	}
	_ = d.f.Truncate(size)
}

// enter makes the file's directory entry durable, once per opening: whoever
// created the file may have died before doing so. d.mu is held.
func (d *fileMap) enter() error {
	if d.entered || d.ro {
		return nil
	}
	dir, err := os.Open(filepath.Dir(d.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: nothing to sync there
		return err
	}
	d.entered = true
	return nil
}

// Read goes through the file, not the mapping, so that a file that was
// truncated behind us is an error and not a fault.
func (d *fileMap) Read(off Off, p []byte) error {
	if err := d.check("read", off, int64(len(p)), &d.size); err != nil {
		return err
	}
	n, err := d.f.ReadAt(p, int64(off))
	if err == nil || n == len(p) {
		return nil
	}
	at := int64(off) + int64(n)
	if errors.Is(err, io.EOF) {
		if at >= d.end.Load() { // the rest of the last page
			clear(p[n:])
			return nil
		}
		err = io.ErrUnexpectedEOF
	}
	return &FaultError{Off: Off(at), Op: "read", Err: err}
}

// WriteAt writes to the file, as stagedFile.
func (d *fileMap) WriteAt(p []byte, off int64) (int, error) { return d.f.WriteAt(p, off) }

// peek copies mapped bytes.
func (d *fileMap) peek(p []byte, off int64) error { return copyGuarded(p, d.view, off) }

// checkWrite says why a write cannot be.
func (d *fileMap) checkWrite(op string, off Off, n int64) error {
	if d.ro {
		return fmt.Errorf("%w: %s", ErrReadOnly, d.path)
	}
	return d.check(op, off, n, &d.end)
}

// check says why a range below size cannot be used.
func (d *fileMap) check(op string, off Off, n int64, size *atomic.Int64) error {
	err := checkRange(op, off, n, size.Load())
	if err != nil && d.closed.Load() {
		return ErrClosed
	}
	return err
}

// Discard gives whole blocks back to the file system, where it can take them.
func (d *fileMap) Discard(off Off, n int64) error {
	if err := d.checkWrite("discard", off, n); err != nil {
		return err
	}
	from, to := inward(off, n, d.unit)
	if from >= to {
		return nil
	}
	err := punchHole(d.f, from, to-from)
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return &FaultError{Off: off, Op: "discard", Err: err}
}

func (d *fileMap) Allocate(off Off, n int64) error {
	if err := d.checkWrite("allocate", off, n); err != nil {
		return err
	}
	from, to := outward(off, n, d.unit)
	if from >= to {
		return nil
	}
	if err := allocateBlocks(d.f, from, to-from); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return fmt.Errorf("%w: %s: allocating %d bytes at %#x: %w", ErrFull, d.path, n, uint64(off), err)
		}
		return &FaultError{Off: off, Op: "allocate", Err: err}
	}
	d.populateRange(from, to)
	return nil
}

// close seals the mappings, then gives the lock back with the file.
func (d *fileMap) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Swap(true) {
		return nil
	}
	d.size.Store(0)
	d.end.Store(0)
	d.view.seal()
	d.alias.seal()
	return d.f.Close()
}

func (d *fileMap) release() {
	d.view.release()
	d.alias.release()
}

// releaseWith gives the regions back when owner, the device, is unreachable.
func releaseWith[T any](owner *T, d *fileMap) {
	runtime.AddCleanup(owner, func(rs [2]*region) { rs[0].release(); rs[1].release() }, [2]*region{d.view, d.alias})
}
