package nvmap

import (
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// The life of a frame. A page without a frame has none of the bits frame, leaving and busy set. Its
// memory in the mirror is not committed and reads as zero.
//
//	none     -> filling   begin: busy, counted
//	filling  -> frame     publish; abandon if the device cannot be read
//	frame    -> leaving   turnAway: clean frames only; the version grows
//	leaving  -> frame     a caller wants the frame back; it is still whole
//	leaving  -> emptying  reclaim: busy
//	emptying -> none      the memory was given back

func (m *Map) frameAt(p PageID) *[PageBytes]byte {
	return (*[PageBytes]byte)(unsafe.Add(m.base[1], (p&m.mask)*PageBytes))
}

// Frame returns a writable DRAM copy of p, marked dirty. The first use copies the page from the
// device; the only error is that of this read. Callers exclude one another from changing p. The
// frame stays at its address until it is clean and evicted.
func (m *Map) Frame(p PageID) (*[PageBytes]byte, error) { return m.FramePart(p, 0, PageBytes) }

// FramePart is Frame for a caller that changes only bytes [from, to). It marks dirty the quarters
// of the page that these bytes touch.
func (m *Map) FramePart(p PageID, from, to int) (*[PageBytes]byte, error) {
	word, dirty := m.word(p), partsOf(from, to)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case w&(stateFrame|dirty) == stateFrame|dirty:
			return m.frameAt(p), nil
		case w&stateBusy != 0:
			runtime.Gosched() // another goroutine reads the page or gives its memory back
		case w&(stateFrame|stateLeaving) != 0:
			if atomic.CompareAndSwapUint64(word, w, w&^stateLeaving|stateFrame|dirty) {
				m.dirtied(w)
				return m.frameAt(p), nil
			}
		case m.begin(p, w):
			if err := m.fill(p); err != nil {
				m.abandon(p)
				return nil, err
			}
			m.dirtied(0)
			m.publish(p, dirty)
			return m.frameAt(p), nil
		}
	}
}

// FreshFrame returns a writable DRAM page of zeros for p, marked dirty. It does not read the
// device. It begins a new life of p: the version grows, and readers of the old life retry. Callers
// exclude one another from changing p.
func (m *Map) FreshFrame(p PageID) (*[PageBytes]byte, error) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case w&stateBusy != 0:
			runtime.Gosched()
		case w&(stateFrame|stateLeaving) == 0:
			if !m.begin(p, w) {
				continue
			}
			atomic.AddUint64(word, stateVersion)
			atomic.AndUint64(word, ^uint64(stateVerified))
			m.dirtied(0)
			m.publish(p, stateDirty)
			return m.frameAt(p), nil
		case atomic.CompareAndSwapUint64(word, w, (w|stateChanging|stateFrame|stateDirty)&^(stateLeaving|stateVerified)):
			// Readers of the old life must not validate remains of it.
			storeBarrier()
			clear(m.frameAt(p)[:])
			m.dirtied(w)
			next := uint64(stateVersion)
			if w&stateChanging == 0 {
				next -= stateChanging
			}
			atomic.AddUint64(word, next)
			return m.frameAt(p), nil
		}
	}
}

// begin claims p, whose state word is w, to give it a frame.
func (m *Map) begin(p PageID, w uint64) bool {
	if !atomic.CompareAndSwapUint64(m.word(p), w, w|stateBusy) {
		return false
	}
	m.enrol(p, math.MaxInt64)
	return true
}

// publish sets the frame bit of the page that begin claimed. The frame is complete.
func (m *Map) publish(p PageID, bits uint64) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if atomic.CompareAndSwapUint64(word, w, w&^stateBusy|stateFrame|bits) {
			return
		}
	}
}

// abandon undoes begin.
func (m *Map) abandon(p PageID) {
	m.emptied(p, 1)
	m.strike(p, 1)
	atomic.AndUint64(m.word(p), ^uint64(stateBusy))
}

// emptied gives the memory of n frames back. It clears memory that the system does not take,
// because a new frame there must begin with zeros.
func (m *Map) emptied(first PageID, n int) {
	m.races.Lock()
	defer m.races.Unlock()
	from := int64(first) * PageBytes
	if m.mirror.drop(from, from+int64(n)*PageBytes) != nil {
		clear(m.mirror.slice(from, from+int64(n)*PageBytes))
	}
}

// dirtied counts a page that becomes dirty. w was its state word.
func (m *Map) dirtied(w uint64) {
	if w&stateDirty == 0 {
		m.counters.dirty.Add(1)
	}
}

// fill copies p from the device to its place in the mirror, which holds zeros.
func (m *Map) fill(p PageID) error {
	if int64(p.Off()) >= m.size.Load() {
		return nil // the page is beyond the device: see Extend
	}
	m.delay()
	m.counters.fills.Add(1)
	m.races.Lock()
	defer m.races.Unlock()
	frame := m.frameAt(p)
	if m.device == nil {
		return m.dev.Read(p.Off(), frame[:])
	}
	return copyGuarded(frame[:], m.device, int64(p.Off()))
}

// Clean notes that the device has the bytes of p. The caller has written them back and fenced, and
// p has not changed since. Clean does nothing to a page without a dirty frame.
func (m *Map) Clean(p PageID) { m.CleanPart(p, 0, PageBytes) }

// CleanPart is Clean for the quarters that bytes [from, to) touch.
func (m *Map) CleanPart(p PageID, from, to int) {
	word, parts := m.word(p), partsOf(from, to)
	for {
		w := atomic.LoadUint64(word)
		if w&parts == 0 {
			return
		}
		if atomic.CompareAndSwapUint64(word, w, w&^parts) {
			if w&stateDirty&^parts == 0 {
				m.counters.dirty.Add(-1)
			}
			return
		}
	}
}

// DirtyParts returns the dirty quarters of p: bit i stands for the i-th.
func (m *Map) DirtyParts(p PageID) uint {
	return uint(atomic.LoadUint64(m.word(p)) & stateDirty >> dirtyShift)
}

// Drop gives the clean frames of ps back to the system. A run of neighbours in ps costs one system
// call. Readers of the frames retry and find the same bytes on the device. Drop skips pages that
// have no frame, have a dirty frame, or are being changed. An owner whose readers do not validate
// calls Evict instead.
func (m *Map) Drop(ps []PageID) {
	away := make([]PageID, 0, len(ps))
	for _, p := range ps {
		if m.turnAway(p) {
			away = append(away, p)
		}
	}
	m.reclaim(away, nil)
}

// turnAway sends readers of p to the device, if p has a clean frame. The frame is still whole.
func (m *Map) turnAway(p PageID) bool {
	const not = stateDirty | stateChanging | stateBusy
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&(stateFrame|not) != stateFrame {
			return false
		}
		next := (w + stateVersion) | stateLeaving
		if atomic.CompareAndSwapUint64(word, w, next&^(stateFrame|stateTouched)) {
			return true
		}
	}
}

// reclaim gives the memory of leaving frames back and returns their number. It calls stay for the
// frames that a caller has taken back meanwhile.
func (m *Map) reclaim(ps []PageID, stay func(PageID)) (freed int) {
	for len(ps) > 0 {
		n := 0
		for n < len(ps) && ps[n] == ps[0]+PageID(n) && m.beginEmpty(ps[n]) {
			n++
		}
		if n == 0 {
			if stay != nil {
				stay(ps[0])
			}
			ps = ps[1:]
			continue
		}
		m.emptied(ps[0], n)
		m.strike(ps[0], n)
		for _, p := range ps[:n] {
			atomic.AndUint64(m.word(p), ^uint64(stateBusy))
		}
		m.counters.drops.Add(uint64(n))
		freed += n
		ps = ps[n:]
	}
	return freed
}

// beginEmpty claims a leaving frame, unless a caller has taken it back.
func (m *Map) beginEmpty(p PageID) bool {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&(stateLeaving|stateChanging|stateBusy) != stateLeaving {
			return false
		}
		// The next read of the page verifies its checksum again. The mark is cleared here and not
		// sooner, because a caller that took the frame back may have changed it without sealing it.
		if atomic.CompareAndSwapUint64(word, w, w&^(stateLeaving|stateVerified)|stateBusy) {
			return true
		}
	}
}

// InFrame reports whether b lies in a frame and not in the device's mapping. b begins in an array
// that Page, Frame or FreshFrame returned.
func (m *Map) InFrame(b []byte) bool {
	_, in := m.mirror.contains(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	return in
}

// Dirty returns the number of dirty frames.
func (m *Map) Dirty() int { return int(m.counters.dirty.Load()) }
