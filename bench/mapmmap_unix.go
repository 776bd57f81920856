//go:build unix

package bench

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/nvmap"
)

// mmapTarget is the kernel's mapping of the file, written and read in place.
type mmapTarget struct{ b []byte }

func openMmap(path string, size int64) (mapTarget, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return mmapTarget{b}, nil
}

func (t mmapTarget) write(off int64, p []byte) error {
	copy(t.b[off:], p)
	return nil
}

func (t mmapTarget) read(off int64, p []byte) error {
	copy(p, t.b[off:])
	return nil
}

func (t mmapTarget) sync() error           { return unix.Msync(t.b, unix.MS_SYNC) }
func (t mmapTarget) expect(random bool)    { adviseReads(t.b, random) }
func (t mmapTarget) stats() nvmap.MapStats { return nvmap.MapStats{WriteBackBytes: dirtiedBytes()} }
func (t mmapTarget) close() error          { return unix.Munmap(t.b) }

// adviseReads tells the kernel whether to read ahead in a mapping. It is advice: without it only
// time is lost.
func adviseReads(b []byte, random bool) {
	advice := unix.MADV_NORMAL
	if random {
		advice = unix.MADV_RANDOM
	}
	_ = unix.Madvise(b, advice)
}

// dirtiedBytes returns what this process has given the kernel to write, in pages. 0: unknown.
func dirtiedBytes() uint64 {
	text, _ := os.ReadFile("/proc/self/io")
	for line := range bytes.Lines(text) {
		if n, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			v, _ := strconv.ParseUint(string(bytes.TrimSpace(n)), 10, 64)
			return v
		}
	}
	return 0
}

// preadTarget reads and writes whole pages with a system call each.
type preadTarget struct {
	f     *os.File
	pages *sync.Pool // of *[nvmap.PageBytes]byte, aligned
}

// openPread opens a file past the page cache, if the file system lets it.
func openPread(path string) (t mapTarget, direct bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|directFlag, 0)
	if direct = err == nil && directFlag != 0; err != nil {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, false, err
	}
	return preadTarget{f, &sync.Pool{New: func() any {
		b := make([]byte, 2*nvmap.PageBytes)
		pad := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (nvmap.PageBytes - 1)
		return (*[nvmap.PageBytes]byte)(b[pad:])
	}}}, direct, nil
}

// do reads [off, off+len(p)), which lies in one page, or changes it.
func (t preadTarget) do(off int64, p []byte, change bool) error {
	page := t.pages.Get().(*[nvmap.PageBytes]byte)
	defer t.pages.Put(page)
	first, at := off&^(nvmap.PageBytes-1), off%nvmap.PageBytes
	if !change || len(p) < nvmap.PageBytes {
		if _, err := t.f.ReadAt(page[:], first); err != nil {
			return err
		}
	}
	if !change {
		copy(p, page[at:])
		return nil
	}
	copy(page[at:], p)
	_, err := t.f.WriteAt(page[:], first)
	return err
}

func (t preadTarget) write(off int64, p []byte) error { return t.do(off, p, true) }
func (t preadTarget) read(off int64, p []byte) error  { return t.do(off, p, false) }
func (t preadTarget) sync() error                     { return t.f.Sync() }
func (t preadTarget) expect(bool)                     {}
func (t preadTarget) stats() nvmap.MapStats           { return nvmap.MapStats{WriteBackBytes: dirtiedBytes()} }
func (t preadTarget) close() error                    { return t.f.Close() }
