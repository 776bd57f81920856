package nvmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pcieDevice is memory behind a window (BAR) of a PCI device. The CPU can map it but reads it
// slowly: each load waits for the bus, whatever its size. So readers have no mapping, and Read
// loads whole lines.
//
// Stores are posted: the CPU does not learn when they arrive. A read from the device does not
// overtake them on the bus. So a fence reads back the last line stored. The same read shows whether
// the device still answers.
type pcieDevice struct {
	*fileMap

	storeMu sync.Mutex // guards last, and the order of stores
	last    pcieStore
}

// pcieStore is the end of the last store: up to one word, which does not cross lines.
type pcieStore struct {
	off  int64
	word [8]byte
	n    int
}

var resourceName = regexp.MustCompile(`^resource[0-5](_wc)?$`)

// isResource reports whether path is a memory window of a PCI device in sysfs.
func isResource(path string) bool {
	if !resourceName.MatchString(filepath.Base(path)) {
		return false
	}
	var st unix.Statfs_t
	err := retryIntr(func() error { return unix.Statfs(path, &st) })
	return err == nil && int64(st.Type) == unix.SYSFS_MAGIC
}

func newPCIe(fm *fileMap, o OpenOptions) (Device, error) {
	if err := checkResource(fm.path); err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
	}
	if !o.NoLock {
		// The window has two names, with and without _wc, and one lock.
		lock, err := os.Open(strings.TrimSuffix(fm.path, "_wc"))
		if err != nil {
			return nil, fmt.Errorf("nvmap: %w", err)
		}
		if err := lockFile(lock, fm.path, o.ReadOnly); err != nil {
			lock.Close()
			return nil, err
		}
		fm.lock = lock
	}
	d, err := openWindow(fm, o)
	if err != nil && fm.lock != nil {
		fm.lock.Close()
	}
	return d, err
}

// openWindow maps the window, which is the file of fm.
func openWindow(fm *fileMap, o OpenOptions) (Device, error) {
	fi, err := fm.f.Stat()
	if err != nil {
		return nil, fmt.Errorf("nvmap: %w", err)
	}
	fm.unit = int64(max(PageBytes, os.Getpagesize()))
	size := fi.Size() &^ (fm.unit - 1)
	if size == 0 {
		return nil, fmt.Errorf("nvmap: %s: a window of %d bytes, less than a page", fm.path, fi.Size())
	}
	fm.plan = mapPlan{alias: true, loads: true, fixed: size}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	d := &pcieDevice{fileMap: fm}
	releaseWith(d, fm)
	return d, nil
}

// These flags of a window are in the file "resource" beside it.
const (
	resourceIO     = 1 << 8
	resourceMemory = 1 << 9
)

// checkResource returns an error if a window cannot be used.
func checkResource(path string) error {
	dir := filepath.Dir(path)
	number := int(filepath.Base(path)[len("resource")] - '0')
	table, err := os.ReadFile(filepath.Join(dir, "resource"))
	if err != nil {
		return err
	}
	// The table has a line for each window: first address, last address, flags.
	lines := strings.Split(string(table), "\n")
	var first, last, flags uint64
	if number >= len(lines) {
		return errors.New("the device has no such window")
	}
	if _, err := fmt.Sscanf(lines[number], "0x%x 0x%x 0x%x", &first, &last, &flags); err != nil {
		return fmt.Errorf("%s: line %d: %w", filepath.Join(dir, "resource"), number+1, err)
	}
	if flags&resourceIO != 0 || flags&resourceMemory == 0 {
		return errors.New("the window is of I/O ports, not of memory")
	}
	var command [2]byte
	config, err := os.Open(filepath.Join(dir, "config"))
	if err != nil {
		return err
	}
	defer config.Close()
	if _, err := config.ReadAt(command[:], 4); err != nil {
		return err
	}
	const memorySpace = 1 << 1
	if binary.LittleEndian.Uint16(command[:])&memorySpace == 0 {
		return fmt.Errorf("the device does not answer at its memory windows: write 1 to %s", filepath.Join(dir, "enable"))
	}
	return nil
}

func (d *pcieDevice) Info() Info {
	info := Info{
		Kind:     "pcie",
		Path:     d.path,
		Why:      d.why,
		Volatile: true,
		Domain:   "the PCI device: a fence reads back the last line stored, which pushes all before it across the bus",
		Mover:    d.mover.name + ", " + wideLoads,
		Unit:     lineBytes,
		Sector:   8,
		MaxBytes: d.maxBytes(),
		Note:     "nothing says that the device keeps its memory without power; if it does, what was fenced stays",
		Protect:  "readers have no mapping",
	}
	if d.path != "" && !strings.HasSuffix(d.path, "_wc") {
		info.Note += "; without write combining every store crosses the bus alone: resourceN_wc is faster where it exists"
	}
	return info
}

// Read fills p with loads of whole lines.
func (d *pcieDevice) Read(off Off, p []byte) error {
	if err := d.check("read", off, int64(len(p)), &d.size); err != nil {
		return err
	}
	return d.guarded("read", func() { d.load(int64(off), p) })
}

// load loads the lines around [off, off+len(p)) and copies their part of p.
func (d *pcieDevice) load(off int64, p []byte) {
	var edge [lineBytes]byte
	if at := off & (lineBytes - 1); at != 0 && len(p) > 0 {
		loadLines(unsafe.Pointer(&edge), d.alias.at(off-at), lineBytes)
		n := copy(p, edge[at:])
		off, p = off+int64(n), p[n:]
	}
	if whole := len(p) &^ (lineBytes - 1); whole > 0 {
		loadLines(unsafe.Pointer(unsafe.SliceData(p)), d.alias.at(off), uintptr(whole))
		off, p = off+int64(whole), p[whole:]
	}
	if len(p) > 0 {
		loadLines(unsafe.Pointer(&edge), d.alias.at(off), lineBytes)
		copy(p, edge[:])
	}
}

// Write stores p and drains the stores. From then on a goroutine on another CPU reads the new
// bytes.
func (d *pcieDevice) Write(off Off, p []byte) error {
	if err := d.checkWrite("write", off, int64(len(p))); err != nil || len(p) == 0 {
		return err
	}
	d.storeMu.Lock()
	defer d.storeMu.Unlock()
	d.last = endOf(off, p)
	return d.guarded("write", func() {
		d.mover.store(d.alias.at(int64(off)), unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)), 0)
		d.mover.drain()
	})
}

// endOf returns the last bytes of p that lie in one aligned word. p is not empty.
func endOf(off Off, p []byte) pcieStore {
	end := int64(off) + int64(len(p))
	s := pcieStore{n: min(len(p), int((end-1)&7)+1)}
	s.off = end - int64(s.n)
	copy(s.word[:], p[len(p)-s.n:])
	return s
}

// Fence reads back the end of the last store and compares it.
func (d *pcieDevice) Fence() error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case d.ro:
		return nil
	}
	d.storeMu.Lock()
	defer d.storeMu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	d.mover.drain()
	got := make([]byte, d.last.n)
	if err := d.guarded("fence", func() { d.load(d.last.off, got) }); err != nil {
		return err
	}
	if string(got) != string(d.last.word[:d.last.n]) {
		err := fmt.Errorf("the device holds %x and not the %x that was stored", got, d.last.word[:d.last.n])
		return &FaultError{Off: Off(d.last.off), Op: "fence", Err: err}
	}
	return nil
}

// guarded runs f, which touches the window, and returns a fault there as an error. A fault means
// that the device was removed or that its driver took the window away.
func (d *pcieDevice) guarded(op string, f func()) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = faulted(r, op, d.alias)
		}
	}()
	f()
	return nil
}

func (d *pcieDevice) Close() error { return d.close() }
