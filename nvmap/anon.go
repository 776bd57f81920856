package nvmap

import "unsafe"

// Memory returns n bytes of zeroed DRAM outside the Go heap, aligned to a cache line, and a function
// that gives them back. No pointer into them may remain then. From 2 MiB on the kernel is asked for
// huge pages. Where memory must come from the Go heap (in race builds, on systems without mmap), and
// for small n, it does, and giving it back does nothing.
func Memory(n int64) ([]byte, func(), error) {
	if raceEnabled || onHeap() || n < minRegionBytes {
		b := make([]byte, n+lineBytes)
		pad := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (lineBytes - 1)
		return b[pad:][:n:n], func() {}, nil
	}
	size := (n + hugeBytes - 1) &^ (hugeBytes - 1)
	r, err := reserve(size, hugeBytes)
	if err != nil {
		return nil, nil, err
	}
	if r.bytes < size {
		r.release()
		return nil, nil, noSpace(size, nil)
	}
	if err := r.open(0, size); err != nil {
		r.release()
		return nil, nil, err
	}
	r.preferHuge(0, size)
	return r.slice(0, n), r.release, nil
}

// LoadBarrier completes earlier loads before later loads. A reader that validates what it has read
// by a word of its own calls it before it loads that word again, as [Map.ReadValid] does.
func LoadBarrier() { loadBarrier() }
