package nvmap

import "golang.org/x/sys/unix"

const mapNoReserve = unix.MAP_NORESERVE

// mapSynced maps what may be stored into without a system call afterwards: the
// kernel refuses it unless stores reach the medium directly, and makes the
// blocks of a page durable before the page can be written.
const mapSynced = unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC

// populateStep bounds how long one call keeps the kernel busy with page tables.
const populateStep = 16 << 20

// populate enters [from, to) into the page tables now, so that the put that
// first touches a page does not pay for it (2.5 us on tmpfs). It is an
// optimisation: kernels before 5.14 do not know the request, and any failure
// leaves the work to the first touch.
func (r *region) populate(from, to int64, writable bool) {
	advice := unix.MADV_POPULATE_READ
	if writable {
		advice = unix.MADV_POPULATE_WRITE
	}
	for ; from < to; from += populateStep {
		if unix.Madvise(r.slice(from, min(from+populateStep, to)), advice) != nil {
			return
		}
	}
}

// gather moves [from, to), which is whole huge pages of a file on tmpfs, behind
// huge pages, holes too where something is there. Unlike advice it
// does not depend on the system's settings. Where the kernel will not (before
// 6.1, or for want of memory in one piece) everything stays as it is.
func (r *region) gather(from, to int64) error {
	return unix.Madvise(r.slice(from, to), unix.MADV_COLLAPSE)
}

// preferHuge asks for huge pages in [from, to).
func (r *region) preferHuge(from, to int64) {
	if r.heap == nil && from < to {
		_ = unix.Madvise(r.slice(from, to), unix.MADV_HUGEPAGE)
	}
}

// avoidHuge forbids huge pages in [from, to), also where the system prefers them.
func (r *region) avoidHuge(from, to int64) {
	if r.heap == nil && from < to {
		_ = unix.Madvise(r.slice(from, to), unix.MADV_NOHUGEPAGE)
	}
}

func dropPages(b []byte) error { return unix.Madvise(b, unix.MADV_DONTNEED) }
