package nvmap

import "golang.org/x/sys/unix"

const mapNoReserve = unix.MAP_NORESERVE

// mapSynced maps memory that takes stores without a later system call. The kernel refuses it unless
// stores reach the medium directly, and makes the blocks of a page durable before the page can be
// written.
const mapSynced = unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC

// populateStep bounds the time that one call keeps the kernel busy with page tables.
const populateStep = 16 << 20

// populate enters [from, to) into the page tables now, so that the first put that touches a page
// does not pay for it (2.5 us on tmpfs). It is an optimisation: kernels before 5.14 do not support
// it, and after any failure the first touch does the work.
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

// gather moves [from, to), which covers whole huge pages of a file on tmpfs, into huge pages. It
// fills holes beside existing pages. Unlike advice it does not depend on the system's settings. If
// the kernel refuses (before 6.1, or without contiguous memory), nothing changes.
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
