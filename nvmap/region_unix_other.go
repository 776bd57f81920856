//go:build unix && !linux

package nvmap

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Outside Linux these flags are absent or have no effect.
const (
	mapNoReserve = 0
	mapSynced    = unix.MAP_SHARED
)

func (r *region) populate(from, to int64, writable bool) {}

func (r *region) gather(from, to int64) error { return errors.ErrUnsupported }

func (r *region) preferHuge(from, to int64) {}

func (r *region) avoidHuge(from, to int64) {}

// dropPages maps fresh memory over b, because MADV_DONTNEED keeps the contents outside Linux.
func dropPages(b []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve|unix.MAP_FIXED)
	return err
}
