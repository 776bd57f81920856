package nvmap

import (
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// A region is address space reserved once, in which memory or a file is opened
// piece by piece. Its base never moves, so growth moves no pointer.
type region struct {
	base  unsafe.Pointer
	bytes int64 // a power of two

	heap []byte         // the memory itself where it comes from the Go heap
	raw  unsafe.Pointer // what the system handed out: base is aligned inside it
	rawN uintptr

	retired atomic.Bool // the owner is closed
}

const (
	maxBytesDefault = 1 << 40   // of address space, where the caller names no bound
	minRegionBytes  = 1 << 20   // halving stops here
	heapBytes       = 256 << 20 // default bound where memory must come from the Go heap
	heapBytesMax    = 1 << 30   // and the bound that is granted at most
	hugeBytes       = 2 << 20   // alignment, so that the kernel may use huge pages
)

// regionSize turns the bound a caller asked for into the size of a region: a
// power of two, so that a page number can be forced inside by a mask.
func regionSize(asked int64, heap bool) int64 {
	switch {
	case asked <= 0 && heap:
		asked = heapBytes
	case asked <= 0:
		asked = maxBytesDefault
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

// reserve returns a region of the given size or, where the system refuses that
// much, of half of it, and so on.
func reserve(bytes, align int64) (*region, error) {
	reclaimed := relieve()
	for size := bytes; ; size /= 2 {
		r, err := reserveExactly(size, align)
		if err != nil && !reclaimed {
			reclaimed = true
			reclaim()
			r, err = reserveExactly(size, align)
		}
		if err == nil {
			return r, nil
		}
		if size/2 < minRegionBytes {
			return nil, fmt.Errorf("nvmap: reserving %d bytes of address space: %w", size, err)
		}
	}
}

// memory returns a region for anonymous memory.
func memory(bytes int64) (*region, error) {
	if heapOnly {
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

// contains says whether addr lies in the region, and where.
func (r *region) contains(addr uintptr) (int64, bool) {
	if r == nil || addr < uintptr(r.base) || addr-uintptr(r.base) >= uintptr(r.bytes) {
		return 0, false
	}
	return int64(addr - uintptr(r.base)), true
}

// Retired regions keep their addresses until nobody can reach the device or map
// they belonged to: a late reader must meet a fault or zeros, never the bytes of
// another store. A process that opens and closes many stores without ever
// collecting garbage would run out of mappings, so the collector is asked for
// now and then.
const retiredRegionsMax = 128

var (
	retiredRegions atomic.Int64
	retiredLimit   atomic.Int64 // above it the collector is asked; 0 is retiredRegionsMax
)

// relieve asks the collector if many regions are retired. Those that it cannot
// free, because somebody holds on to closed stores, are not asked for again until
// there are twice as many.
func relieve() bool {
	if retiredRegions.Load() <= max(retiredLimit.Load(), retiredRegionsMax) {
		return false
	}
	reclaim()
	retiredLimit.Store(2 * retiredRegions.Load())
	return true
}

// reclaim has retired regions of unreachable owners given back.
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

// retire says that the owner is closed. The region stays as it is until the
// owner is unreachable.
func (r *region) retire() {
	if r != nil && r.heap == nil && !r.retired.Swap(true) {
		retiredRegions.Add(1)
	}
}

// seal retires the region and makes every later access to it fault. On the Go
// heap it does nothing.
func (r *region) seal() {
	if r != nil && r.heap == nil {
		r.retire()
		r.sealPages()
	}
}

// release gives the addresses back. Nobody may hold a pointer into the region.
func (r *region) release() {
	if r == nil || r.heap != nil {
		return
	}
	if r.retired.Load() {
		retiredRegions.Add(-1)
	}
	r.unmap()
}
