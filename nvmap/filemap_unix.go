//go:build unix

package nvmap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"nvkv/internal/filegate"
)

// fileMap is what the kinds over a file or device file share: the file, its
// lock, mappings of it, and growth.
type fileMap struct {
	f    *os.File
	lock *os.File // has the lock, where another file than f
	path string
	why  string
	ro   bool
	unit int64 // granularity of blocks and mappings: PageBytes, or a huge page
	plan mapPlan
	gate filegate.Gate // nil but in tests

	view  *region // PROT_READ, unless protection is off; nil where readers have none
	alias *region // PROT_WRITE, for the one routine that stores; nil where none does
	limit int64   // bytes it can grow to

	mover  mover // what stores through the alias
	stored bool  // there is, or will be, an alias of what readers see

	protectionState

	size     atomic.Int64 // usable, whole pages
	end      atomic.Int64 // bytes the file really has: writes stop here
	openSize int64        // of the file when opened; reading [openSize, size) gives zeros

	mu      sync.Mutex // guards Grow, Close and publish
	closed  atomic.Bool
	dir     string // that the file is in
	entered bool   // the directory entry is durable
}

// mapPlan says how a kind maps its file.
type mapPlan struct {
	view   bool  // for readers
	alias  bool  // for the store routine
	loads  bool  // that is what reads, too
	synced bool  // MAP_SYNC: a page that can be stored into has durable blocks
	fixed  int64 // the size of what cannot grow; 0: it is a file
	zeroed bool  // every block is written when it is allocated: see isDAX
	gather bool  // memory whose pages growth gathers in huge ones
}

// holes says whether blocks can be given back and allocated again.
func (p mapPlan) holes() bool { return p.fixed == 0 && !p.zeroed }

// start maps what d describes: an open, locked file, which the caller closes if
// this fails.
func (d *fileMap) start(o OpenOptions) error {
	d.ro = o.ReadOnly
	d.plan.alias = d.plan.alias && (!d.ro || d.plan.loads)
	d.stored = d.plan.alias && d.plan.view
	if err := errors.Join(d.SetProtection(o.Protect), d.open(o.MaxBytes)); err != nil {
		d.release()
		return fmt.Errorf("nvmap: %s: %w", d.path, err)
	}
	return nil
}

// open reserves the mappings and maps what there is.
func (d *fileMap) open(maxBytes int64) error {
	d.openSize, d.limit = d.plan.fixed, d.plan.fixed
	if d.plan.fixed == 0 {
		fi, err := d.f.Stat()
		if err != nil {
			return err
		}
		d.openSize = fi.Size()
		d.limit = fileLimit(roundUp(d.openSize, d.unit), maxBytes)
	}
	size := roundUp(d.openSize, d.unit)
	if err := d.reserve(); err != nil {
		return err
	}
	if size > d.limit {
		return fmt.Errorf("its %d bytes do not fit the %d bytes of address space granted", d.openSize, d.limit)
	}
	if err := d.mapRange(0, size); err != nil {
		return err
	}
	d.size.Store(size)
	d.end.Store(d.openSize)
	return nil
}

// fileLimit returns how far a file of size bytes may grow when maxBytes is asked
// for.
func fileLimit(size, maxBytes int64) int64 {
	if maxBytes == 0 && heapOnly {
		maxBytes = heapBytes // a mirror on the Go heap could not follow further
	}
	if maxBytes > 0 || size > maxBytesDefault {
		maxBytes = max(maxBytes, size) // a bound below what is there would shut it out
	}
	return regionSize(maxBytes, false)
}

// reserve reserves what the plan asks for, and lowers the limit to what was
// granted.
func (d *fileMap) reserve() (err error) {
	align := max(d.unit, hugeBytes)
	if d.plan.view {
		if d.view, err = reserve(regionSize(d.limit, false), align); err != nil {
			return err
		}
		d.limit = min(d.limit, d.view.bytes)
	}
	if d.plan.alias {
		if d.alias, err = reserve(regionSize(d.limit, false), align); err != nil {
			return err
		}
		d.limit = min(d.limit, d.alias.bytes)
	}
	return nil
}

func (d *fileMap) maxBytes() int64 { return d.limit }

// mapRange maps file bytes [from, to) for readers and for the store routine.
func (d *fileMap) mapRange(from, to int64) error {
	if d.view != nil {
		if err := d.view.mapFile(int(d.f.Fd()), from, to, d.Protection() == ProtectNone, d.plan.synced); err != nil {
			return err
		}
	}
	if d.alias == nil {
		return nil
	}
	if err := d.alias.mapFile(int(d.f.Fd()), from, to, !d.ro, d.plan.synced); err != nil {
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
	if d.alias != nil && d.view != nil {
		d.pkey().while(func() { d.alias.populate(from, to, true) })
		d.view.populate(from, to, false)
	}
}

func (d *fileMap) Size() int64 { return d.size.Load() }

func (d *fileMap) Mapping() []byte {
	if d.view == nil {
		return nil
	}
	return d.view.slice(0, d.maxBytes())
}

// Grow maps what is beyond the end, allocates blocks there, then makes them part
// of the file. A step that fails undoes the ones before.
func (d *fileMap) Grow(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := d.end.Load()
	switch {
	case d.closed.Load():
		return ErrClosed
	case size <= from:
		return d.confirm()
	case d.ro:
		return fmt.Errorf("%w: %s", ErrReadOnly, d.path)
	case d.plan.fixed > 0:
		return fmt.Errorf("%w: %s: the device has %d bytes, not %d", ErrFull, d.path, d.plan.fixed, size)
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
	// From a whole page: the one that held the old end is mapped already, and
	// mapping it again at the same place is harmless.
	if err := d.mapRange(from&^(d.unit-1), to); err != nil {
		return err
	}
	if d.plan.gather {
		d.gatherRange(from, to)
	}
	if err := d.allocate(from, to-from, allocateBlocks); err != nil {
		return err
	}
	if d.plan.zeroed {
		if err := writeZeros(d.f, from, to-from); err != nil {
			return err
		}
	}
	if err := d.resize(to); err != nil {
		return err
	}
	if err := d.fullSync(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	d.populateRange(from&^(d.unit-1), to)
	return nil
}

// confirm makes the size and the name that this opening found durable: whoever made
// or grew the file may have died before doing so. d.mu is held.
func (d *fileMap) confirm() error {
	if d.entered || d.ro || d.plan.fixed > 0 {
		return nil
	}
	if err := d.fullSync(); err != nil {
		return err
	}
	return d.enter()
}

// gatherRange lets a file on tmpfs grow from its end in huge pages, as far as
// [from, to) completes any: DAX file systems lay files out so, and on tmpfs, which
// takes small pages where nobody asks, a read at random is spared the misses of
// the TLB. It is the faster way to grow, too. One page of each is written, which
// makes it part of the file, and the kernel fills the hole behind it when it
// gathers them: so there is no hole before the file's end whenever this stops.
// What cannot be had so is left to whoever allocates the blocks after this.
//
// The first huge page may reach below from and be in use: whoever touches it
// meanwhile waits for its copy, some hundred microseconds. Discard splits them.
func (d *fileMap) gatherRange(from, to int64) {
	var zeros [PageBytes]byte
	for at := from &^ (hugeBytes - 1); at+hugeBytes <= to; at += hugeBytes {
		if at >= from {
			if _, err := d.f.WriteAt(zeros[:], at); err != nil {
				return
			}
		}
		if d.alias.gather(at, at+hugeBytes) != nil {
			return
		}
	}
}

// shrink undoes a failed extend; blocks beyond the end go with it.
func (d *fileMap) shrink(size int64) {
	for _, r := range []*region{d.view, d.alias} {
		if r != nil {
			_ = r.hide(roundUp(size, d.unit), d.maxBytes())
		}
	}
	_ = d.resize(size)
}

// allocate has give, allocateBlocks or refillBlocks, give a range blocks.
func (d *fileMap) allocate(off, n int64, give func(f *os.File, off, n int64) error) error {
	return d.gate.Do(filegate.Allocate, off, n, func() error { return give(d.f, off, n) })
}

func (d *fileMap) resize(size int64) error {
	return d.gate.Do(filegate.Resize, size, 0, func() error { return d.f.Truncate(size) })
}

// dataSync makes what was written to the file durable.
func (d *fileMap) dataSync() error {
	return d.gate.Do(filegate.Sync, 0, 0, func() error { return dataSync(d.f) })
}

// fullSync makes the file durable with its size.
func (d *fileMap) fullSync() error { return d.gate.Do(filegate.Sync, 0, 0, d.f.Sync) }

// publish is enter for whoever writes to a file that need not grow.
func (d *fileMap) publish() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	if err := d.enter(); err != nil {
		return &FaultError{Op: "fence", Err: err}
	}
	return nil
}

// enter makes the file's directory entry durable, once per opening: whoever
// created the file may have died before doing so. Of a file that was there, in a
// directory that may not be read, it is believed to be. d.mu is held.
func (d *fileMap) enter() error {
	if d.entered || d.ro {
		return nil
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		d.entered = d.openSize > 0 && errors.Is(err, fs.ErrPermission)
		if d.entered {
			return nil
		}
		return err
	}
	defer dir.Close()
	err = d.gate.Do(filegate.SyncDir, 0, 0, dir.Sync)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: nothing to sync there
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
	n, err := d.readAt(p, int64(off))
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

// readAt reads from the file.
func (d *fileMap) readAt(p []byte, off int64) (int, error) {
	pass, err := d.gate.Passes(filegate.Read, off, int64(len(p)))
	if err == nil {
		return d.f.ReadAt(p, off) // goes on by itself after a short transfer
	}
	n, _ := d.f.ReadAt(p[:pass], off)
	return n, err
}

// WriteAt writes to the file, as stagedFile.
func (d *fileMap) WriteAt(p []byte, off int64) (int, error) {
	pass, err := d.gate.Passes(filegate.Write, off, int64(len(p)))
	switch err {
	case nil:
		return d.f.WriteAt(p, off) // likewise
	case filegate.ErrLost:
		return len(p), nil
	}
	n, _ := d.f.WriteAt(p[:pass], off)
	return n, err
}

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
	if from >= to || !d.plan.holes() {
		return nil
	}
	err := d.gate.Do(filegate.Punch, from, to-from, func() error { return punchHole(d.f, from, to-from) })
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
	if from >= to || !d.plan.holes() {
		return nil
	}
	if err := d.allocate(from, to-from, refillBlocks); err != nil {
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
	if d.lock != nil {
		d.lock.Close()
	}
	return d.f.Close()
}

// locked returns the file that has the lock.
func (d *fileMap) locked() *os.File {
	if d.lock != nil {
		return d.lock
	}
	return d.f
}

func (d *fileMap) release() {
	d.view.release()
	d.alias.release()
}

// releaseWith gives the regions back when owner, the device, is unreachable.
func releaseWith[T any](owner *T, d *fileMap) {
	runtime.AddCleanup(owner, func(rs [2]*region) { rs[0].release(); rs[1].release() }, [2]*region{d.view, d.alias})
}
