package nvmap

import (
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// The life of a frame. A page without one has neither frame, leaving nor busy
// set, and its memory in the mirror is not committed and reads as zero.
//
//	none     -> filling   begin: busy, counted
//	filling  -> frame     publish; abandon if the device cannot be read
//	frame    -> leaving   turnAway: clean frames only; the version grows
//	leaving  -> frame     whoever wants it back finds it whole
//	leaving  -> emptying  reclaim: busy
//	emptying -> none      the memory is gone

func (m *Map) frameAt(p PageID) *[PageBytes]byte {
	return (*[PageBytes]byte)(unsafe.Add(m.base[1], (p&m.mask)*PageBytes))
}

// Frame returns a writable DRAM copy of p, marked dirty. On first use it is
// copied from the device, whose failure is the only error. The caller alone
// changes p. The frame stays where it is until it is clean and evicted.
func (m *Map) Frame(p PageID) (*[PageBytes]byte, error) { return m.FramePart(p, 0, PageBytes) }

// FramePart is Frame for a caller that changes bytes [from, to) only: of the
// page, the quarters that these touch become dirty.
func (m *Map) FramePart(p PageID, from, to int) (*[PageBytes]byte, error) {
	word, dirty := m.word(p), partsOf(from, to)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case w&(stateFrame|dirty) == stateFrame|dirty:
			return m.frameAt(p), nil
		case w&stateBusy != 0:
			runtime.Gosched() // a read or a madvise away
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

// FreshFrame returns a writable DRAM page of zeros for p, marked dirty; the
// device is not read. It begins a new life of p: the version grows, readers of
// the old one retry. The caller alone changes p.
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
			// Readers of the old life must not find its remains valid.
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

// begin claims p, whose word is w, to give it a frame.
func (m *Map) begin(p PageID, w uint64) bool {
	if !atomic.CompareAndSwapUint64(m.word(p), w, w|stateBusy) {
		return false
	}
	m.enrol(p, math.MaxInt64)
	return true
}

// publish makes the frame that begin claimed count. It was complete before.
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

// emptied gives the memory of n frames back. What the system does not take is
// cleared: the next frame there begins with zeros.
func (m *Map) emptied(first PageID, n int) {
	m.races.Lock()
	defer m.races.Unlock()
	from := int64(first) * PageBytes
	if m.mirror.drop(from, from+int64(n)*PageBytes) != nil {
		clear(m.mirror.slice(from, from+int64(n)*PageBytes))
	}
}

// dirtied counts a page that becomes dirty, whose word was w.
func (m *Map) dirtied(w uint64) {
	if w&stateDirty == 0 {
		m.counters.dirty.Add(1)
	}
}

// fill copies p from the device to its place in the mirror.
func (m *Map) fill(p PageID) error {
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

// Clean notes that the device has the bytes of p: the caller wrote them back
// and fenced, and p did not change since. A page without a dirty frame is left
// alone.
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

// DirtyParts says which quarters of p are dirty: bit i for the i-th.
func (m *Map) DirtyParts(p PageID) uint {
	return uint(atomic.LoadUint64(m.word(p)) & stateDirty >> dirtyShift)
}

// Drop gives the clean frames of ps back to the system; runs of neighbours in
// ps cost one system call. Readers of them retry and find the same bytes on the
// device. Pages that have no frame, or a dirty one, or are being changed, are
// left alone. An owner whose readers do not validate calls Evict instead.
func (m *Map) Drop(ps []PageID) {
	away := make([]PageID, 0, len(ps))
	for _, p := range ps {
		if m.turnAway(p) {
			away = append(away, p)
		}
	}
	m.reclaim(away, nil)
}

// turnAway sends readers of p to the device. The frame is still whole.
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

// reclaim gives the memory of leaving frames back and returns how many. Those
// that somebody wanted back meanwhile are told to stay.
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

// beginEmpty claims a leaving frame that nobody wanted back.
func (m *Map) beginEmpty(p PageID) bool {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&(stateLeaving|stateChanging|stateBusy) != stateLeaving {
			return false
		}
		// The checksum is verified again when the page is next read. Not sooner:
		// whoever wanted the frame back may have changed it, unsealed.
		if atomic.CompareAndSwapUint64(word, w, w&^(stateLeaving|stateVerified)|stateBusy) {
			return true
		}
	}
}

// InFrame reports whether b, which begins in what Page, Frame or FreshFrame
// returned, lies in a frame and not in the device's mapping.
func (m *Map) InFrame(b []byte) bool {
	_, in := m.mirror.contains(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	return in
}

// Dirty returns how many frames are dirty.
func (m *Map) Dirty() int { return int(m.counters.dirty.Load()) }
