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

// fileMap is common to all kinds over a file or device file. It holds the file, its lock and its
// mappings, and grows it.
type fileMap struct {
	f    *os.File
	lock *os.File // holds the lock, if that is not f
	path string
	why  string
	ro   bool
	unit int64 // granularity of blocks and mappings: PageBytes, or a huge page
	plan mapPlan
	gate filegate.Gate // nil except in tests

	view  *region // PROT_READ, unless protection is off; nil if readers have no mapping
	alias *region // PROT_WRITE, for the store routine; nil if there is none
	limit int64   // bytes it can grow to
	asked int64   // MaxBytes as the owner asked for it; 0: the default

	mover  mover // stores through the alias
	stored bool  // readers see, or will see, the stores through the alias

	protectionState

	size     atomic.Int64 // usable bytes, in whole pages
	end      atomic.Int64 // bytes that the file has; a write beyond is refused
	openSize int64        // bytes of the file when opened; [openSize, size) reads as zero

	mu      sync.Mutex // guards Grow, Close and publish
	closed  atomic.Bool
	dir     string // directory of the file
	entered bool   // the directory entry is durable
}

// mapPlan says how a kind maps its file.
type mapPlan struct {
	view   bool  // map for readers
	alias  bool  // map for the store routine
	loads  bool  // reads go through the alias, too
	synced bool  // MAP_SYNC: a page that takes stores has durable blocks
	fixed  int64 // size of a device that cannot grow; 0: it is a file
	zeroed bool  // blocks are written with zeros when allocated: see isDAX
	gather bool  // growth gathers the pages in huge pages
}

// holes reports whether blocks can be given back and allocated again.
func (p mapPlan) holes() bool { return p.fixed == 0 && !p.zeroed }

// start maps the file of d, which is open and locked. If start fails, the caller closes the file.
func (d *fileMap) start(o OpenOptions) error {
	d.ro, d.asked = o.ReadOnly, o.MaxBytes
	d.plan.alias = d.plan.alias && (!d.ro || d.plan.loads)
	d.stored = d.plan.alias && d.plan.view
	if err := errors.Join(d.SetProtection(o.Protect), d.open(o.MaxBytes)); err != nil {
		d.release()
		return fmt.Errorf("nvmap: %s: %w", d.path, err)
	}
	return nil
}

// open reserves address space and maps the file as it is.
func (d *fileMap) open(maxBytes int64) error {
	d.openSize, d.limit = d.plan.fixed, d.plan.fixed
	if d.plan.fixed == 0 {
		fi, err := d.f.Stat()
		if err != nil {
			return err
		}
		d.openSize = fi.Size()
		d.limit = fileLimit(roundUp(d.openSize, d.unit), maxBytes, d.unit)
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

// fileLimit returns the size to which a file of size bytes may grow when maxBytes is asked for.
func fileLimit(size, maxBytes, unit int64) int64 {
	if maxBytes == 0 && onHeap() {
		maxBytes = heapBytes // a mirror on the Go heap cannot be larger
	}
	if maxBytes == 0 {
		maxBytes = defaultBound()
	}
	maxBytes = max(maxBytes, size) // a lower bound would shut out bytes that exist
	return exactly(maxBytes, regionSize(maxBytes, false), unit)
}

// reserve reserves the mappings of the plan, and lowers the limit to the size granted.
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

// scant returns Info.Scant.
func (d *fileMap) scant() bool { return d.plan.fixed == 0 && scant(d.asked, d.limit, d.unit) }

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

// populateRange enters a range that has blocks into the page tables of view and alias, if both
// exist. It skips a file that is written with system calls: its pages would fill the page cache
// before they are needed, and the kernel maps the neighbours of a page that is read anyway.
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

// Grow maps the range beyond the end, allocates its blocks, then makes it part of the file. A step
// that fails undoes the earlier steps.
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
	// Begin at a whole page. The page with the old end is mapped already, and mapping it again at
	// the same place is harmless.
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

// confirm makes durable the size and the name that this opening found, because the process that
// created or grew the file may have died before it did so. The caller holds d.mu.
func (d *fileMap) confirm() error {
	if d.entered || d.ro || d.plan.fixed > 0 {
		return nil
	}
	if err := d.fullSync(); err != nil {
		return err
	}
	return d.enter()
}

// gatherRange grows a file on tmpfs in huge pages, as far as [from, to) completes any. DAX file
// systems lay files out in this way. tmpfs uses small pages by default; huge pages spare random
// reads the misses of the TLB, and growth is faster. gatherRange writes one small page of each huge
// page, which makes it part of the file. The kernel fills the hole behind it when it gathers the
// pages. So there is no hole before the file's end, wherever gatherRange stops. It leaves the rest
// to extend, which allocates the blocks afterwards.
//
// The first huge page may begin before from and be in use. A thread that touches it meanwhile waits
// some hundred microseconds for its copy. Discard splits huge pages.
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

// shrink undoes a failed extend. It frees the blocks beyond the end, too.
func (d *fileMap) shrink(size int64) {
	for _, r := range []*region{d.view, d.alias} {
		if r != nil {
			_ = r.hide(roundUp(size, d.unit), d.maxBytes())
		}
	}
	_ = d.resize(size)
}

// allocate calls give, which is allocateBlocks or refillBlocks, through the gate.
func (d *fileMap) allocate(off, n int64, give func(f *os.File, off, n int64) error) error {
	return d.gate.Do(filegate.Allocate, off, n, func() error { return give(d.f, off, n) })
}

func (d *fileMap) resize(size int64) error {
	return d.gate.Do(filegate.Resize, size, 0, func() error { return d.f.Truncate(size) })
}

// dataSync makes the bytes written to the file durable.
func (d *fileMap) dataSync() error {
	return d.gate.Do(filegate.Sync, 0, 0, func() error { return dataSync(d.f) })
}

// fullSync makes the file durable with its size.
func (d *fileMap) fullSync() error { return d.gate.Do(filegate.Sync, 0, 0, d.f.Sync) }

// publish is enter for a fence of a file that has not grown.
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

// enter makes the file's directory entry durable, once per opening, because the process that
// created the file may have died before it did so. If the file existed before and its directory may
// not be read, enter assumes that the entry is durable. The caller holds d.mu.
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

// Read uses the file, not the mapping, so that a truncated file gives an error and not a fault.
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
		if at >= d.end.Load() { // the rest of the last page reads as zero
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
		return d.f.ReadAt(p, off) // ReadAt continues by itself after a short transfer
	}
	n, _ := d.f.ReadAt(p[:pass], off)
	return n, err
}

// WriteAt writes to the file; it implements stagedFile.
func (d *fileMap) WriteAt(p []byte, off int64) (int, error) {
	pass, err := d.gate.Passes(filegate.Write, off, int64(len(p)))
	switch err {
	case nil:
		return d.f.WriteAt(p, off) // WriteAt likewise
	case filegate.ErrLost:
		return len(p), nil
	}
	n, _ := d.f.WriteAt(p[:pass], off)
	return n, err
}

// peek copies bytes from the mapping.
func (d *fileMap) peek(p []byte, off int64) error { return copyGuarded(p, d.view, off) }

// checkWrite returns an error if [off, off+n) cannot be written.
func (d *fileMap) checkWrite(op string, off Off, n int64) error {
	if d.ro && !d.closed.Load() {
		return fmt.Errorf("%w: %s", ErrReadOnly, d.path)
	}
	return d.check(op, off, n, &d.end)
}

// check returns an error if [off, off+n) does not lie below size.
func (d *fileMap) check(op string, off Off, n int64, size *atomic.Int64) error {
	err := checkRange(op, off, n, size.Load())
	if err != nil && d.closed.Load() {
		return ErrClosed
	}
	return err
}

// Discard gives whole blocks back to the file system, if it supports that.
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

// close seals the mappings, then closes the file, which releases the lock.
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

// locked returns the file that holds the lock.
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

// releaseWith releases the regions when owner, the device, becomes unreachable.
func releaseWith[T any](owner *T, d *fileMap) {
	runtime.AddCleanup(owner, func(rs [2]*region) { rs[0].release(); rs[1].release() }, [2]*region{d.view, d.alias})
}
