//go:build amd64 || arm64

package paging

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// header is the beginning of the shared memory. The pager writes it.
type header struct {
	magic      uint64
	configLen  uint64
	size       int64  // usable bytes
	generation uint64 // of the pager, from 1
	started    uint64 // a pager has opened the medium, and size is set
	failed     uint64 // a fence failed: P12
	trips      uint64 // see Config.Trip
	pid        uint64 // of the pager
	supervisor uint64 // its process id
	finished   uint64 // the last pager has done all of its work
	Counters
}

// Counters count since the map was opened, over all pagers.
type Counters struct {
	Missing     uint64 // faults on pages that were not present
	Stores      uint64 // faults by the first store to a clean page
	Minor       uint64 // faults on pages that were present and not mapped
	Reads       uint64 // pages read from the medium
	Ahead       uint64 // of these, before they were asked for
	Evictions   uint64 // pages that left
	WriteBacks  uint64 // pages written to the medium
	Syncs       uint64
	Sampled     uint64 // pages unmapped to see their use
	Poisoned    uint64 // faults that ended in an error
	Waits       uint64 // faults that waited for memory
	Resident    uint64 // pages present, and on their way in
	ResidentMax uint64 // the most that were
	Dirty       uint64 // pages with bytes that the medium does not have
}

const (
	sharedMagic = 0x31676e6967617076
	configAt    = PageBytes
	statesAt    = 64 << 10
)

// State bits of a page.
const (
	isPresent   = 1 << iota
	isDirty     // the medium does not have its bytes
	isTouched   // used since the policy last asked
	isTransient // not admitted by the policy: leaves first
	isPoisoned
	isAhead    // the first use of the page starts the next read-ahead
	isUnmapped // taken out of the page tables, or to be soon
)

// shared is the mapping of the shared memory.
type shared struct {
	mem    []byte
	h      *header
	states []byte
}

// newShared makes the shared memory for c.
func newShared(c *Config) (*shared, *os.File, error) {
	f, err := memfd("nvmap-shared", statesAt+(c.MaxBytes/PageBytes+PageBytes-1)&^(PageBytes-1))
	if err != nil {
		return nil, nil, err
	}
	s, err := mapShared(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	text, err := json.Marshal(c)
	if err == nil && len(text) > statesAt-configAt {
		err = errors.New("nvmap: the options of the map are too long")
	}
	if err != nil {
		f.Close()
		s.unmap()
		return nil, nil, err
	}
	copy(s.mem[configAt:], text)
	s.h.configLen, s.h.magic = uint64(len(text)), sharedMagic
	return s, f, nil
}

// openShared maps the shared memory that the program made.
func openShared(f *os.File) (*shared, *Config, error) {
	s, err := mapShared(f)
	if err != nil {
		return nil, nil, err
	}
	if s.h.magic != sharedMagic || s.h.configLen > statesAt-configAt {
		return nil, nil, errors.New("the shared memory was not made by this version of nvmap")
	}
	c := new(Config)
	if err := json.Unmarshal(s.mem[configAt:configAt+s.h.configLen], c); err != nil {
		return nil, nil, err
	}
	return s, c, nil
}

func mapShared(f *os.File) (*shared, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < statesAt {
		return nil, fmt.Errorf("shared memory of %d bytes", fi.Size())
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("nvmap: mapping the state of the pages: %w", err)
	}
	return &shared{mem: mem, h: (*header)(unsafe.Pointer(unsafe.SliceData(mem))), states: mem[statesAt:]}, nil
}

func (s *shared) unmap() { _ = unix.Munmap(s.mem) }

func (s *shared) size() int64 { return atomic.LoadInt64(&s.h.size) }

func (s *shared) counters() Counters {
	var c Counters
	from := unsafe.Slice((*uint64)(unsafe.Pointer(&s.h.Counters)), unsafe.Sizeof(c)/8)
	to := unsafe.Slice((*uint64)(unsafe.Pointer(&c)), len(from))
	for i := range from {
		to[i] = atomic.LoadUint64(&from[i])
	}
	return c
}

// memfd makes a file in memory whose size cannot change.
func memfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("nvmap: memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("nvmap: memfd of %d bytes: %w", size, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("nvmap: sealing a memfd: %w", err)
	}
	return f, nil
}
