package nvmap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockDevice is a disk, or a file on a disk, without the kernel's page cache (O_DIRECT). It
// transfers whole pages only, between the disk and page-aligned memory, and many pages at a time.
//
// A write is staged: it changes a copy of its pages in DRAM. The copy is read from the disk first
// unless the write covers the whole page. A page that is written several times before the fence is
// transferred once. Fence writes all staged pages together and flushes the disk's own cache.
// Written pages are kept in DRAM for a while, because the next record often goes to the same page
// and then needs no read. Kept pages serve writes only, so a reader sees the bytes of the disk.
//
// Under mu, a page is staged, travelling, or neither. W6: a travelling page does not change. A
// write to it stages a copy, and the next flush writes the copy after the first has arrived. A read
// of a page looks in the stage first, then among the travelling pages, then on the disk. A page
// leaves either set only when the disk has its bytes.
type blockDevice struct {
	*fileMap
	pager  pager
	sector int64
	memory bool // the file lies on a file system in memory

	flushMu sync.Mutex                  // one flush at a time; before writeMu
	writeMu sync.Mutex                  // one write at a time, and none while flush takes the staged pages; before mu
	kept    map[PageID]*[PageBytes]byte // bytes of the disk for pages in neither set; guarded by writeMu

	mu         sync.RWMutex
	staged     map[PageID]*[PageBytes]byte
	travelling map[PageID]*[PageBytes]byte
}

// stagedPagesMax bounds the DRAM of staged pages (4 MiB). The write that reaches it flushes them.
const stagedPagesMax = 1024

// keptPagesMax bounds the DRAM of kept pages (1 MiB).
const keptPagesMax = 256

func newBlock(fm *fileMap, at site, fs fsInfo, o OpenOptions) (Device, error) {
	fm.unit = PageBytes
	d := &blockDevice{fileMap: fm, memory: fs.memory}
	if err := d.prepare(at); err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
	}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	d.staged = make(map[PageID]*[PageBytes]byte)
	d.kept = make(map[PageID]*[PageBytes]byte)
	var err error
	if d.pager, err = newPager(fm.f, fm.gate); err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
	}
	return d, nil
}

// prepare finds the size and the sector of the disk and bypasses the page cache.
func (d *blockDevice) prepare(at site) (err error) {
	if at == siteBlock {
		d.plan.fixed, d.sector, err = diskSize(d.f)
	} else {
		d.sector, err = directUnit(d.f)
	}
	if err != nil {
		return err
	}
	if d.sector > PageBytes {
		return fmt.Errorf("its smallest transfer is %d bytes, more than a page of %d", d.sector, PageBytes)
	}
	if err := setDirect(d.f); err != nil {
		return fmt.Errorf("device kind \"block\" needs O_DIRECT, which is refused here: %w", err)
	}
	return nil
}

// diskSize returns the size of a block device in whole pages, and its sector.
func diskSize(f *os.File) (size, sector int64, err error) {
	var bytes uint64
	err = retryIntr(func() error {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&bytes)))
		if e != 0 {
			return e
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the size: %w", err)
	}
	logical, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the sector: %w", err)
	}
	if bytes < PageBytes {
		return 0, 0, fmt.Errorf("a disk of %d bytes, less than a page", bytes)
	}
	return int64(bytes) &^ (PageBytes - 1), int64(logical), nil
}

// directUnit returns the alignment that O_DIRECT needs on the file system of f. Kernels before 6.1
// do not report it; directUnit then returns 512, which most disks have.
func directUnit(f *os.File) (int64, error) {
	var st unix.Statx_t
	err := retryIntr(func() error {
		return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	})
	switch {
	case errors.Is(err, unix.ENOSYS) || err == nil && st.Mask&unix.STATX_DIOALIGN == 0:
		return 512, nil
	case err != nil:
		return 0, fmt.Errorf("statx: %w", err)
	case st.Dio_offset_align == 0:
		return 0, errors.New("device kind \"block\" needs O_DIRECT, which this file does not support")
	}
	return int64(max(st.Dio_offset_align, st.Dio_mem_align)), nil
}

// setDirect makes an open file bypass the page cache. Opening with O_DIRECT would leave an empty
// file behind where the flag is refused.
func setDirect(f *os.File) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	return err
}

func (d *blockDevice) Info() Info {
	info := Info{
		Kind:     "block",
		Path:     d.path,
		Why:      d.why,
		Volatile: d.memory,
		Domain:   "what fdatasync reaches: the disk and its cache, if it keeps its word",
		Mover:    d.pager.name(),
		Unit:     PageBytes,
		Sector:   int(d.sector),
		MaxBytes: d.maxBytes(),
		Scant:    d.scant(),
		Note:     "every transfer is of whole pages; bytes beside a write in the same sector are assumed to survive a power failure in the middle of it",
		Protect:  "readers have no mapping",
	}
	if d.memory {
		info.Domain = "the memory of this machine, posing as a disk"
	}
	return info
}

// Read copies the pages that are in DRAM and reads the others from the disk.
func (d *blockDevice) Read(off Off, p []byte) error {
	if err := d.check("read", off, int64(len(p)), &d.size); err != nil || len(p) == 0 {
		return err
	}
	first, last := off.Page(), (off + Off(len(p)) - 1).Page()
	if first == last {
		return d.readPart(off, p)
	}
	var reqs []PageRead
	edges := make([]PageRead, 0, 2) // pages of which the caller wants a part only
	for page := first; page <= last; page++ {
		if page.Off() >= off && page.Off()+PageBytes <= off+Off(len(p)) {
			reqs = append(reqs, PageRead{Page: page, Buf: p[page.Off()-off:][:PageBytes]})
			continue
		}
		edges = append(edges, PageRead{Page: page, Buf: newPage()[:]})
	}
	if err := d.ReadBatch(append(reqs, edges...)); err != nil {
		return err
	}
	for _, e := range edges {
		copyOverlap(p, off, e.Buf, e.Page.Off())
	}
	return nil
}

// readPart reads inside one page.
func (d *blockDevice) readPart(off Off, p []byte) error {
	page, at := off.Page(), int(off%PageBytes)
	if d.copyStaged(page, at, p) {
		return nil
	}
	buf := p
	if len(p) < PageBytes {
		buf = newPage()[:]
	}
	req := [1]PageRead{{Page: page, Buf: buf}}
	if err := d.fetch(req[:]); err != nil {
		return err
	}
	if len(p) < PageBytes {
		copy(p, buf[at:])
	}
	return nil
}

// copyOverlap copies to dst the bytes of src at the same offsets. dst begins at offset to, src at
// offset from.
func copyOverlap(dst []byte, to Off, src []byte, from Off) {
	if from < to {
		copy(dst, src[to-from:])
		return
	}
	copy(dst[from-to:], src)
}

// copyStaged fills p from the bytes of a page, beginning at byte at, if the page is in DRAM.
func (d *blockDevice) copyStaged(page PageID, at int, p []byte) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	buf := d.inDRAM(page)
	if buf == nil {
		return false
	}
	copy(p, buf[at:])
	return true
}

// inDRAM returns the newest bytes of a page that the disk may not have, else nil. The caller holds
// mu.
func (d *blockDevice) inDRAM(page PageID) *[PageBytes]byte {
	if buf := d.staged[page]; buf != nil {
		return buf
	}
	return d.travelling[page]
}

// ReadBatch reads the pages that are not in DRAM in one batch.
func (d *blockDevice) ReadBatch(reqs []PageRead) error {
	var first error
	missing := make([]int, 0, len(reqs))
	for i := range reqs {
		r := &reqs[i]
		if r.Err = r.check(d.size.Load()); d.closed.Load() {
			r.Err = ErrClosed
		}
		switch {
		case r.Err != nil:
			first = firstErr(first, r.Err)
		case !d.copyStaged(r.Page, 0, r.Buf[:PageBytes]):
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return first
	}
	wanted := make([]PageRead, len(missing))
	for i, at := range missing {
		wanted[i] = reqs[at]
	}
	err := d.fetch(wanted)
	for i, at := range missing {
		reqs[at].Err = wanted[i].Err
	}
	return firstErr(first, err)
}

// firstErr returns a, or b where a is nil.
func firstErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// fetch reads pages from the disk in one batch.
func (d *blockDevice) fetch(reqs []PageRead) error {
	ts := make([]transfer, len(reqs))
	end := d.end.Load()
	for i := range reqs {
		buf := reqs[i].Buf[:PageBytes]
		if !aligned(buf) {
			buf = newPage()[:]
		}
		ts[i] = transfer{off: int64(reqs[i].Page.Off()), bufs: [][]byte{buf}, end: end}
	}
	d.pager.read(ts)
	var first error
	for i := range ts {
		t, r := &ts[i], &reqs[i]
		if t.err != nil {
			r.Err = d.fault(t.off, "read", t.err)
			first = firstErr(first, r.Err)
			continue
		}
		if &t.bufs[0][0] != &r.Buf[0] {
			copy(r.Buf, t.bufs[0])
		}
	}
	return first
}

func (d *blockDevice) fault(off int64, op string, err error) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return &FaultError{Off: Off(off), Op: op, Err: err}
}

// Write stages p. It flushes when the stage is full.
func (d *blockDevice) Write(off Off, p []byte) error {
	if err := d.checkWrite("write", off, int64(len(p))); err != nil {
		return err
	}
	// A file may end inside a page. Growth completes that page; until then the page takes no write.
	if err := checkRange("write", off, int64(len(p)), d.end.Load()&^(PageBytes-1)); err != nil {
		return err
	}
	for len(p) > 0 {
		n, full, err := d.stagePart(off, p)
		if err != nil {
			return err
		}
		if full {
			if err := d.flush(); err != nil {
				return err
			}
		}
		off, p = off+Off(n), p[n:]
	}
	return nil
}

// stagePart stages the bytes of p that belong to the page at off. It returns their number, and
// whether the stage is full.
func (d *blockDevice) stagePart(off Off, p []byte) (n int, full bool, err error) {
	page, at := off.Page(), int(off%PageBytes)
	n = min(len(p), PageBytes-at)
	d.writeMu.Lock()
	defer d.writeMu.Unlock()
	base := d.kept[page]
	delete(d.kept, page)
	if base == nil && d.at(page) == nil && n < PageBytes {
		// The caller holds writeMu, so nothing stages the page meanwhile and the disk has its
		// newest bytes.
		base = newPage()
		req := [1]PageRead{{Page: page, Buf: base[:]}}
		if err := d.fetch(req[:]); err != nil {
			return 0, false, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	buf := d.staged[page]
	if buf == nil {
		if buf = base; buf == nil {
			buf = newPage()
		}
		if old := d.travelling[page]; old != nil && n < PageBytes {
			*buf = *old
		}
		d.staged[page] = buf
	}
	copy(buf[at:], p[:n])
	return n, len(d.staged) >= stagedPagesMax, nil
}

// at is inDRAM for a caller that does not hold mu.
func (d *blockDevice) at(page PageID) *[PageBytes]byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.inDRAM(page)
}

// flush writes all staged pages. If a write fails, they are staged again.
func (d *blockDevice) flush() error {
	d.flushMu.Lock()
	defer d.flushMu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	d.depart()
	if len(d.travelling) == 0 {
		return nil
	}
	ts := transfersOf(d.travelling)
	d.pager.write(ts)
	var err error
	for i := range ts {
		if ts[i].err != nil {
			err = firstErr(err, d.fault(ts[i].off, "write", ts[i].err))
		}
	}
	d.arrive(err == nil)
	return err
}

// depart moves the staged pages to the travelling set.
func (d *blockDevice) depart() {
	d.writeMu.Lock()
	defer d.writeMu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.travelling, d.staged = d.staged, make(map[PageID]*[PageBytes]byte)
}

// arrive keeps the pages that travelled, or stages them again if a write failed. It leaves out
// pages with newer staged bytes.
func (d *blockDevice) arrive(well bool) {
	d.writeMu.Lock()
	defer d.writeMu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.staged
	if well {
		to = d.kept
	}
	for page, buf := range d.travelling {
		if d.staged[page] == nil {
			to[page] = buf
		}
	}
	d.travelling = nil
	for page := range d.kept { // in any order
		if len(d.kept) <= keptPagesMax {
			break
		}
		delete(d.kept, page)
	}
}

// Fence writes the staged pages and flushes the cache of the disk.
func (d *blockDevice) Fence() error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case d.ro:
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	if d.plan.fixed == 0 { // a file
		if err := d.publish(); err != nil {
			return err
		}
	}
	if err := d.dataSync(); err != nil {
		return d.fault(0, "fence", err)
	}
	return nil
}

// Discard flushes first, because a staged page would fill the hole again.
func (d *blockDevice) Discard(off Off, n int64) error {
	if err := d.checkWrite("discard", off, n); err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.writeMu.Lock()
	defer d.writeMu.Unlock()
	clear(d.kept)
	return d.fileMap.Discard(off, n)
}

// Close drops staged writes that were not fenced.
func (d *blockDevice) Close() error {
	d.flushMu.Lock()
	defer d.flushMu.Unlock()
	err := d.close()
	d.pager.close()
	return err
}
