//go:build unix

package bench

import (
	"errors"
	"os"

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
func (t mmapTarget) stats() nvmap.MapStats { return nvmap.MapStats{} }
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
