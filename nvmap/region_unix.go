//go:build unix

package nvmap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/internal/racing"
)

// onHeap reports whether anonymous memory comes from the Go heap.
func onHeap() bool { return raceEnabled && racing.Heap }

// reserveExactly reserves size bytes aligned to align. It uses PROT_NONE, so that the reservation
// counts only against the limit of address space, also on systems that do not overcommit.
func reserveExactly(size, align int64) (*region, error) {
	n := uintptr(size + align)
	raw, err := unix.MmapPtr(-1, 0, nil, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return nil, err
	}
	pad := -uintptr(raw) & uintptr(align-1)
	return &region{base: unsafe.Add(raw, pad), bytes: size, raw: raw, rawN: n}, nil
}

// open makes [from, to) zeroed, writable, private memory, which is committed when it is touched.
func (r *region) open(from, to int64) error {
	if r.heap != nil || from >= to {
		return nil
	}
	if err := unix.Mprotect(r.slice(from, to), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("nvmap: opening %d bytes of memory: %w", to-from, err)
	}
	return nil
}

// mapFile maps bytes [from, to) of a file to the same place in the region, with MAP_SYNC if synced
// is set and the system has it.
func (r *region) mapFile(fd int, from, to int64, writable, synced bool) error {
	if from >= to {
		return nil
	}
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	flags := unix.MAP_SHARED
	if synced {
		flags = mapSynced
	}
	_, err := unix.MmapPtr(fd, from, r.at(from), uintptr(to-from), prot, flags|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("nvmap: mapping %d bytes at %#x: %w", to-from, from, err)
	}
	return nil
}

// setWritable makes [from, to), which is mapped, writable or read-only.
func (r *region) setWritable(from, to int64, writable bool) error {
	if from >= to {
		return nil
	}
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	if err := unix.Mprotect(r.slice(from, to), prot); err != nil {
		return fmt.Errorf("nvmap: changing the protection of %d bytes at %#x: %w", to-from, from, err)
	}
	return nil
}

// hide replaces [from, to) by reserved addresses, as before open.
func (r *region) hide(from, to int64) error {
	if from >= to {
		return nil
	}
	_, err := unix.MmapPtr(-1, 0, r.at(from), uintptr(to-from), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve|unix.MAP_FIXED)
	return err
}

// drop gives the memory behind [from, to) back. It then reads as zero.
func (r *region) drop(from, to int64) error {
	if from >= to {
		return nil
	}
	if r.heap != nil {
		clear(r.heap[from:to])
		return nil
	}
	return dropPages(r.slice(from, to))
}

func (r *region) sealPages() {
	if err := r.hide(0, r.bytes); err != nil {
		_ = unix.Mprotect(r.slice(0, r.bytes), unix.PROT_NONE)
	}
}

func (r *region) unmap() { _ = unix.MunmapPtr(r.raw, r.rawN) }
