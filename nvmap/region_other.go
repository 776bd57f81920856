//go:build !unix

package nvmap

import "errors"

// onHeap reports whether anonymous memory comes from the Go heap.
func onHeap() bool { return true }

func reserveExactly(size, align int64) (*region, error) {
	return nil, errors.ErrUnsupported
}

func (r *region) open(from, to int64) error { return nil }

func (r *region) populate(from, to int64, writable bool) {}

func (r *region) gather(from, to int64) error { return errors.ErrUnsupported }

func (r *region) preferHuge(from, to int64) {}

func (r *region) avoidHuge(from, to int64) {}

// drop gives the memory behind [from, to) back. It then reads as zero.
func (r *region) drop(from, to int64) error {
	clear(r.heap[from:to])
	return nil
}

func (r *region) sealPages() {}

func (r *region) unmap() {}
