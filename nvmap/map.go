package nvmap

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// A Map presents a device as pages. It has the read-only mapping of the device, a DRAM mirror of
// the same offsets in which pages have frames, and a state word for each page.
//
// # Reading a page
//
//	v, ok := m.ReadBegin(p)
//	... read m.Page(p), believing nothing ...
//	if !ok || !m.ReadValid(p, v) { retry }
//
// This takes no lock and writes no shared memory. Bytes that were read may be garbage until
// ReadValid returns true, so check every number from them before using it.
//
// # Changing a page
//
// Frame or FreshFrame gives the writable copy. Stores into it that readers may see stand between
// BeginChange and EndChange. Callers exclude one another from changing the same page. All other
// methods may be called at any time from any goroutine, within the limits that each states for
// pages in use.
type Map struct {
	// base[0] is the device's mapping and base[1] the mirror. The index is the frame bit of a state
	// word, so that Page has no branch.
	base  [2]unsafe.Pointer
	state unsafe.Pointer // of uint64, one per page
	mask  PageID         // of pages; a larger page number wraps and reads a wrong page, never foreign memory
	dev   Device
	size  atomic.Int64
	end   atomic.Int64 // see End; never below size

	device *region // the device's mapping; nil without one
	mirror *region
	words  *region
	heaped heapWords // the state words, in place of words; see makeWords
	max    int64
	huge   bool

	mu     sync.Mutex // guards Grow and Close against each other
	opened int64      // bytes of the mirror that are accessible
	closed atomic.Bool

	counters counters
	cache    cache
	bytes    bytesState
	batch    BatchReader // the device, if pages are better read in batches; else nil
	streams  streams
	coherent bool     // a write to the device also updates frames
	races    raceLock // guards the bytes of frames in race builds
}

// MapOptions are choices for NewMap. nil means all defaults.
type MapOptions struct {
	// HugeFrames asks the kernel for huge pages behind the mirror and the state words. A random
	// read of one frame among 1 GiB of them then costs 240 ns instead of 620, and the first frame
	// in each 2 MiB commits all of them. It suits owners that keep their pages close together. It
	// excludes CacheBytes.
	HugeFrames bool

	// CacheBytes bounds the memory of frames, in bytes. 0: there is no bound. The bound holds for
	// frames that Fetch, Load and Store make. Frame and FreshFrame always succeed: an owner asks
	// Room first, and calls Evict.
	CacheBytes int64

	// Policy chooses the frames to evict. nil: NewPolicy(DefaultPolicy).
	Policy Policy

	// Pressed is for owners who call Evict themselves, because they use pages without validating
	// them. The map calls it when frames run short, from any goroutine and often. It must return at
	// once, and make another goroutine call Evict. Reads leave an eighth of CacheBytes to the
	// owner's changes.
	Pressed func()

	// Mode says how Load and Store move bytes.
	Mode Mode
}

// NewMap reserves a mirror and state words for the size that dev can grow to. If NewMap succeeds,
// the map owns the device, and Close closes it.
func NewMap(dev Device, o *MapOptions) (*Map, error) {
	if o == nil {
		o = &MapOptions{}
	}
	mirror, err := memory(regionSize(dev.Info().MaxBytes, onHeap()))
	if err != nil {
		return nil, err
	}
	m := &Map{
		mask:   PageID(mirror.bytes/PageBytes - 1),
		dev:    dev,
		mirror: mirror,
		max:    mirror.bytes,
		huge:   o.HugeFrames,
	}
	words, err := m.makeWords()
	if err != nil {
		mirror.release()
		return nil, err
	}
	if err := m.setCache(o); err != nil {
		mirror.release()
		words.release()
		return nil, err
	}
	m.base = [2]unsafe.Pointer{mirror.base, mirror.base}
	if view := dev.Mapping(); view != nil {
		m.base[0] = unsafe.Pointer(unsafe.SliceData(view))
		m.device = &region{base: m.base[0], bytes: int64(len(view))}
	}
	if m.device == nil {
		m.batch, _ = dev.(BatchReader)
	}
	m.coherent = m.device == nil || o.Mode != InPlace
	m.bytes.mode.Store(uint32(o.Mode))
	if o.Mode != InPlace {
		if err := m.SetMode(o.Mode); err != nil {
			mirror.release()
			words.release()
			return nil, err
		}
	}
	runtime.AddCleanup(m, func(rs [2]*region) { rs[0].release(); rs[1].release() }, [2]*region{mirror, words})
	if err := m.openTo(dev.Size()); err != nil {
		return nil, err
	}
	m.size.Store(dev.Size())
	m.end.Store(dev.Size())
	return m, nil
}

// Device returns the underlying device.
func (m *Map) Device() Device { return m.dev }

// Size returns the number of usable bytes.
func (m *Map) Size() int64 { return m.size.Load() }

// Grow makes at least size bytes usable; see Device.Grow. Readers continue meanwhile, and no
// address changes.
func (m *Map) Grow(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return ErrClosed
	}
	if size <= m.size.Load() {
		return nil
	}
	if err := m.openTo(size); err != nil {
		return err
	}
	if err := m.dev.Grow(size); err != nil {
		return err
	}
	if err := m.openTo(m.dev.Size()); err != nil {
		return err
	}
	m.size.Store(m.dev.Size())
	m.end.Store(max(m.end.Load(), m.dev.Size()))
	return nil
}

// End returns the end of the pages that may have frames: Size, or the size given to Extend if that
// is larger.
func (m *Map) End() int64 { return m.end.Load() }

// Extend lets pages below size have frames although the device ends before. These frames begin with
// zeros. Extend is for owners that write nothing back, because they may not change the device.
func (m *Map) Extend(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return ErrClosed
	}
	if err := m.openTo(size); err != nil {
		return err
	}
	m.end.Store(max(m.end.Load(), size))
	return nil
}

// openStep is the unit in which the mirror and its state words are made accessible: the state words
// for 2 MiB of device fill one page.
const openStep = PageBytes / 8 * PageBytes

// openTo makes the mirror and the state words for the first size bytes accessible. The memory is
// committed when it is touched.
func (m *Map) openTo(size int64) error {
	if size > m.max {
		return fmt.Errorf("%w: the address space reserved holds %d bytes, not %d", ErrFull, m.max, size)
	}
	to := min(roundUp(size, openStep), m.max)
	if to <= m.opened {
		return nil
	}
	if err := m.mirror.open(m.opened, to); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err := m.openWords(m.opened/PageBytes*8, roundUp(to/PageBytes*8, PageBytes)); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if m.huge {
		m.mirror.preferHuge(m.opened, to)
	}
	if m.cache.limit > 0 {
		m.mirror.avoidHuge(m.opened, to)
	}
	m.opened = to
	return nil
}

// ReadBegin returns the version of p. ok is false while p is being changed.
func (m *Map) ReadBegin(p PageID) (v Version, ok bool) {
	w := atomic.LoadUint64(m.word(p))
	return Version(w), w&stateChanging == 0
}

// ReadValid reports whether the bytes of p that were read since ReadBegin returned v are whole and
// still the newest.
func (m *Map) ReadValid(p PageID, v Version) bool {
	loadBarrier()
	return (atomic.LoadUint64(m.word(p))^uint64(v))&stateSeen == 0
}

// BeginChange makes readers of p retry until EndChange. Callers exclude one another from changing
// p.
func (m *Map) BeginChange(p PageID) {
	atomic.OrUint64(m.word(p), stateChanging)
	storeBarrier()
}

// EndChange ends a change and gives p its next version.
func (m *Map) EndChange(p PageID) {
	atomic.AddUint64(m.word(p), stateVersion-stateChanging)
}

// Page returns the newest bytes of p: its frame if there is one, else the device's mapping. The
// caller has checked that p lies below Size. The array must not be written. It is valid until
// ReadValid returns false. For a caller that keeps others from changing and dropping p, it is valid
// as long as that holds.
//
// If the device has no mapping and p no frame, the page reads as zero.
func (m *Map) Page(p PageID) *[PageBytes]byte {
	w := atomic.LoadUint64(m.word(p))
	return (*[PageBytes]byte)(unsafe.Add(m.base[w>>1&1], (p&m.mask)*PageBytes))
}

// Where returns the place of the newest bytes of p.
func (m *Map) Where(p PageID) Place {
	return placeOf(atomic.LoadUint64(m.word(p)))
}

func placeOf(w uint64) Place {
	switch w & (stateFrame | stateDirty) {
	case 0:
		return OnDevice
	case stateFrame:
		return FrameClean
	}
	return FrameDirty
}

// Verified reports whether SetVerified was called for p. The mark is cleared when the frame of p is
// given back, and by FreshFrame.
func (m *Map) Verified(p PageID) bool {
	return atomic.LoadUint64(m.word(p))&stateVerified != 0
}

// SetVerified notes that the checksum of p was correct.
func (m *Map) SetVerified(p PageID) { atomic.OrUint64(m.word(p), stateVerified) }

// Close closes the device and empties the mirror. A late reader of a frame would see zeros that may
// validate, so the owner keeps readers out first. State words keep their values. A second Close
// returns nil.
func (m *Map) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Swap(true) {
		return nil
	}
	err := m.dev.Close()
	m.size.Store(0)
	if dropErr := m.mirror.drop(0, m.opened); err == nil {
		err = dropErr
	}
	m.mirror.retire()
	m.words.retire()
	return err
}
