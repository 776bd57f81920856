package nvmap

import (
	"sync/atomic"
	"unsafe"
)

// counters are the counters of a map. Those of Write are plain words with one writer, because a
// locked instruction between a store and its fence would wait for the store.
type counters struct {
	writes, writeBytes, lines uint64 // changed by the one goroutine that may call Write

	_ [64]byte // the counters below are changed by other CPUs

	fences              atomic.Uint64 // counted after the fence
	backs, backBytes    atomic.Uint64
	backLines           atomic.Uint64
	beside, besideBytes atomic.Uint64
	besideLines         atomic.Uint64
	discards, allocates atomic.Uint64
	drops               atomic.Uint64
	frames, dirty       atomic.Int64
	fills, admissions   atomic.Uint64
	batches, batchPages atomic.Uint64
	evictions           atomic.Uint64

	hits, misses, directs tally
}

// tally is a counter for readers. It has stripes, chosen by the address of the caller's stack, so
// that readers rarely share a cache line.
type tally [16]struct {
	n atomic.Uint64
	_ [56]byte
}

func (t *tally) add() {
	var here byte
	h := uintptr(unsafe.Pointer(&here)) >> 11
	t[(h^h>>4)%uintptr(len(t))].n.Add(1)
}

func (t *tally) sum() (n uint64) {
	for i := range t {
		n += t[i].n.Load()
	}
	return n
}

// backed counts a write-back of n bytes, from the given number of pages.
func (c *counters) backed(off Off, n, pages int) {
	c.backs.Add(uint64(pages))
	c.backBytes.Add(uint64(n))
	c.backLines.Add(linesOf(off, n))
}

// MapStats counts the operations of a map since it was opened. The write counters are exact as long
// as one goroutine at a time calls Write; a concurrent reader may see them a little late. All
// others are exact.
type MapStats struct {
	Size     int64 `json:"size"`      // usable bytes
	MaxBytes int64 `json:"max_bytes"` // address space reserved

	Writes     uint64 `json:"writes"`      // calls of Write and WriteBeside
	WriteBytes uint64 `json:"write_bytes"` // bytes that these calls stored
	WriteLines uint64 `json:"write_lines"` // 64-byte lines that these calls touched
	Fences     uint64 `json:"fences"`      // calls of Fence

	WriteBacks     uint64 `json:"write_backs"` // pages, or parts of one, written from frames
	WriteBackBytes uint64 `json:"write_back_bytes"`
	WriteBackLines uint64 `json:"write_back_lines"`

	Frames      int64  `json:"frames"`       // pages that have a frame now
	FrameBytes  int64  `json:"frame_bytes"`  // DRAM they occupy
	Drops       uint64 `json:"drops"`        // frames given back
	DirtyFrames int64  `json:"dirty_frames"` // frames with bytes that the device does not have yet

	CachePolicy string `json:"cache_policy,omitempty"` // "" if frames have no bound
	CacheBytes  int64  `json:"cache_bytes"`            // the bound
	CacheUsed   int64  `json:"cache_used_bytes"`       // memory that counts towards the bound: frames, and huge pages whole
	Hits        uint64 `json:"hits"`                   // calls of Load, Store and Fetch that found a frame, also one that was read ahead
	Misses      uint64 `json:"misses"`
	Direct      uint64 `json:"direct_reads"` // Loads that read the device, without a frame
	Fills       uint64 `json:"fills"`        // pages copied from the device to frames
	Admissions  uint64 `json:"admissions"`   // frames made for a miss that the policy admitted
	Batches     uint64 `json:"read_batches"` // batches of pages read
	BatchPages  uint64 `json:"batch_pages"`  // pages of Fills that a batch read before they were asked for
	Evictions   uint64 `json:"evictions"`    // frames that the policy gave up

	Discards  uint64 `json:"discards"`
	Allocates uint64 `json:"allocates"`
}

// Stats returns the counters.
func (m *Map) Stats() MapStats {
	c := &m.counters
	frames := c.frames.Load()
	return MapStats{
		Size:           m.Size(),
		MaxBytes:       m.max,
		Writes:         countOf(&c.writes) + c.beside.Load(),
		WriteBytes:     countOf(&c.writeBytes) + c.besideBytes.Load(),
		WriteLines:     countOf(&c.lines) + c.besideLines.Load(),
		Fences:         c.fences.Load(),
		WriteBacks:     c.backs.Load(),
		WriteBackBytes: c.backBytes.Load(),
		WriteBackLines: c.backLines.Load(),
		Frames:         frames,
		FrameBytes:     frames * PageBytes,
		Drops:          c.drops.Load(),
		DirtyFrames:    c.dirty.Load(),
		CachePolicy:    m.cache.name(),
		CacheBytes:     m.cache.limit * PageBytes,
		CacheUsed:      m.cache.used.Load() * PageBytes,
		Hits:           c.hits.sum(),
		Misses:         c.misses.sum(),
		Direct:         c.directs.sum(),
		Fills:          c.fills.Load(),
		Admissions:     c.admissions.Load(),
		Batches:        c.batches.Load(),
		BatchPages:     c.batchPages.Load(),
		Evictions:      c.evictions.Load(),
		Discards:       c.discards.Load(),
		Allocates:      c.allocates.Load(),
	}
}

const lineBytes = 64

// linesOf returns the number of 64-byte lines that [off, off+n) touches.
func linesOf(off Off, n int) uint64 {
	if n <= 0 {
		return 0
	}
	return (uint64(off)+uint64(n)-1)/lineBytes - uint64(off)/lineBytes + 1
}

// View returns the bytes [off, off+n) of the device's mapping, clipped. It returns nil if they lie
// outside Size or the device is not mapped. The slice must not be written. It is valid as long as
// the device is open, and shows later writes. View ignores frames: it is for records, which have
// none.
func (m *Map) View(off Off, n int) []byte {
	size := m.size.Load()
	if n < 0 || int64(n) > size || uint64(off) > uint64(size-int64(n)) || m.device == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(m.base[0], off)), n)
}

// PrefetchView asks for 64-byte cache lines of the device's mapping, lines of them beginning at
// each of offs. It never faults, so offs may be guesses. On amd64 they come to the second-level
// cache and no further: the first level has room for fewer misses at a time, and a scan that asked
// for its records there took half as long again.
func (m *Map) PrefetchView(offs []Off, lines int) {
	if m.device != nil && len(offs) > 0 {
		prefetchAt(m.base[0], unsafe.SliceData(offs), len(offs), lines)
	}
}

// Write stores p at off on the device; see Device.Write. If several goroutines call Write at once,
// the counters are wrong.
func (m *Map) Write(off Off, p []byte) error {
	if err := m.write(off, p); err != nil {
		return err
	}
	c := &m.counters
	count(&c.writes, 1)
	count(&c.writeBytes, uint64(len(p)))
	count(&c.lines, linesOf(off, len(p)))
	return nil
}

func (m *Map) write(off Off, p []byte) error {
	if m.coherent {
		return m.writeCoherent(off, p)
	}
	return m.dev.Write(off, p)
}

// WriteBeside is Write for goroutines other than the one that calls Write. Its counters are shared,
// and exact.
func (m *Map) WriteBeside(off Off, p []byte) error {
	if err := m.write(off, p); err != nil {
		return err
	}
	m.counters.wroteBeside(off, len(p))
	return nil
}

func (c *counters) wroteBeside(off Off, n int) {
	c.beside.Add(1)
	c.besideBytes.Add(uint64(n))
	c.besideLines.Add(linesOf(off, n))
}

// WriteBack stores bytes [from, to) of the frame of p at its place on the device. It does not
// change the state of p: the caller calls Clean after the fence. p must have a frame and must not
// change meanwhile.
func (m *Map) WriteBack(p PageID, from, to int) error {
	off := p.Off() + Off(from)
	if err := m.dev.Write(off, m.frameAt(p)[from:to]); err != nil {
		return err
	}
	m.counters.backed(off, to-from, 1)
	return nil
}

// Fence returns nil once everything that this goroutine wrote is durable.
func (m *Map) Fence() error {
	err := m.dev.Fence()
	m.counters.fences.Add(1)
	return err
}

// shower is a device whose mapping may show writes late: when Show or Fence returns.
type shower interface{ Show() error }

// Show makes the device's mapping show all earlier writes, durable or not. It is for owners who let
// others read bytes that are not fenced.
func (m *Map) Show() error {
	if d, ok := m.dev.(shower); ok {
		return d.Show()
	}
	return nil
}

// Discard gives the blocks of a range back; see Device.Discard.
func (m *Map) Discard(off Off, n int64) error {
	m.counters.discards.Add(1)
	return m.dev.Discard(off, n)
}

// Allocate makes a discarded range writable again; see Device.Allocate.
func (m *Map) Allocate(off Off, n int64) error {
	m.counters.allocates.Add(1)
	return m.dev.Allocate(off, n)
}

// Faulted converts r, which recover returned, into a *FaultError if r is a memory fault inside the
// device's mapping. Else it panics with r again. op is the Op of the error. Faulted is for callers
// that read views under debug.SetPanicOnFault.
func (m *Map) Faulted(r any, op string) *FaultError {
	return faulted(r, op, m.device)
}
