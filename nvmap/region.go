package nvmap

import (
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// A region is address space that is reserved once. Memory or a file is made accessible in it piece
// by piece. Its base never moves, so growth moves no pointer.
type region struct {
	base  unsafe.Pointer
	bytes int64 // a power of two

	heap []byte         // the memory itself, if it comes from the Go heap
	raw  unsafe.Pointer // the mapping from the system, in which base is aligned
	rawN uintptr

	space   int64       // bytes taken from the budget
	retired atomic.Bool // the owner is closed
}

const (
	minRegionBytes = 1 << 20   // halving stops here
	heapBytes      = 256 << 20 // default bound if memory must come from the Go heap
	heapBytesMax   = 1 << 30   // largest bound that is granted on the Go heap
	hugeBytes      = 2 << 20   // alignment, so that the kernel may use huge pages
)

// regionSize returns the size of a region for the bound that a caller asked for. It is a power of
// two, so that a mask can force a page number inside.
func regionSize(asked int64, heap bool) int64 {
	switch {
	case asked <= 0 && heap:
		asked = heapBytes
	case asked <= 0:
		asked = defaultBound()
	}
	limit := int64(1) << 46
	if heap {
		limit = heapBytesMax
	} else if math.MaxInt == math.MaxInt32 {
		limit = 1 << 28
	}
	asked = min(max(asked, minRegionBytes), limit)
	return 1 << bits.Len64(uint64(asked-1))
}

// exactly returns the size to which a device may grow in a region of the given size: asked, rounded
// down to whole units, but at most the region. If asked is 0, it is the region.
func exactly(asked, region, unit int64) int64 {
	if asked <= 0 {
		return region
	}
	return min(max(asked&^(unit-1), unit), region)
}

// reserve returns a region of the given size. If the system refuses, it tries half the size, and so
// on.
func reserve(bytes, align int64) (*region, error) {
	reclaimed := relieve()
	for size := bytes; ; size /= 2 {
		var err error
		if takeSpace(size + align) {
			var r *region
			r, err = reserveExactly(size, align)
			if err != nil && !reclaimed {
				reclaimed = true
				reclaim()
				r, err = reserveExactly(size, align)
			}
			if err == nil {
				r.space = size + align
				return r, nil
			}
			spaceUsed.Add(-size - align)
			spaceHeld.Add(-size - align)
		}
		if size/2 < minRegionBytes {
			return nil, noSpace(size, err)
		}
	}
}

// memory returns a region for anonymous memory.
func memory(bytes int64) (*region, error) {
	if onHeap() {
		b := make([]byte, min(bytes, heapBytesMax))
		return &region{base: unsafe.Pointer(unsafe.SliceData(b)), bytes: int64(len(b)), heap: b}, nil
	}
	return reserve(bytes, hugeBytes)
}

// at returns the address of byte o of the region.
func (r *region) at(o int64) unsafe.Pointer { return unsafe.Add(r.base, o) }

// slice returns bytes [from, to) of the region, clipped.
func (r *region) slice(from, to int64) []byte {
	return unsafe.Slice((*byte)(r.at(from)), to-from)
}

// contains reports whether addr lies in the region, and at which offset.
func (r *region) contains(addr uintptr) (int64, bool) {
	if r == nil || addr < uintptr(r.base) || addr-uintptr(r.base) >= uintptr(r.bytes) {
		return 0, false
	}
	return int64(addr - uintptr(r.base)), true
}

// retiredRegionsMax bounds the retired regions before the first collection. A retired region keeps
// its addresses until its device or map is unreachable, because a late reader must get a fault or
// zeros, never the bytes of another store. A process that opens and closes many stores without
// collecting garbage would run out of mappings, so reserve runs the collector now and then.
const retiredRegionsMax = 128

var (
	retiredRegions atomic.Int64
	retiredLimit   atomic.Int64 // above it the collector runs; 0 means retiredRegionsMax
)

// relieve runs the collector if many regions are retired. It cannot free regions of closed stores
// that are still referenced; the next run waits until there are twice as many.
func relieve() bool {
	if retiredRegions.Load() <= max(retiredLimit.Load(), retiredRegionsMax) {
		return false
	}
	reclaim()
	retiredLimit.Store(2 * retiredRegions.Load())
	return true
}

// reclaim runs the collector and waits for the cleanups that release retired regions.
func reclaim() {
	before := retiredRegions.Load()
	if before == 0 {
		return
	}
	runtime.GC()
	for range 20 { // cleanups run on a goroutine of their own
		if retiredRegions.Load() < before {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// retire says that the owner is closed. The region keeps its addresses until the owner is
// unreachable.
func (r *region) retire() {
	if r != nil && r.heap == nil && !r.retired.Swap(true) {
		spaceUsed.Add(-r.space)
		retiredRegions.Add(1)
	}
}

// seal retires the region and makes every later access to it fault. On the Go heap it does nothing.
func (r *region) seal() {
	if r != nil && r.heap == nil {
		r.retire()
		r.sealPages()
	}
}

// release gives the addresses back. No pointer into the region may remain.
func (r *region) release() {
	if r == nil || r.heap != nil {
		return
	}
	if r.retired.Load() {
		retiredRegions.Add(-1)
	} else {
		spaceUsed.Add(-r.space)
	}
	spaceHeld.Add(-r.space)
	r.unmap()
}
