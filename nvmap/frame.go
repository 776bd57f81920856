package nvmap

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

func (m *Map) frameAt(p PageID) *[PageBytes]byte {
	return (*[PageBytes]byte)(unsafe.Add(m.base[1], (p&m.mask)*PageBytes))
}

// Frame returns a writable DRAM copy of p, marked dirty. On first use it is
// copied from the device, whose failure is the only error. The caller alone
// changes p. The frame stays where it is until Drop takes it, which needs a
// Clean first.
func (m *Map) Frame(p PageID) (*[PageBytes]byte, error) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case w&(stateFrame|stateDirty) == stateFrame|stateDirty:
			return m.frameAt(p), nil
		case w&stateDropping != 0:
			runtime.Gosched() // a madvise away
			continue
		case w&stateFrame == 0:
			if err := m.fill(p); err != nil {
				return nil, err
			}
		}
		// The copy is complete before the word says that it counts. A reader
		// that goes on with the device's bytes meanwhile reads the same ones.
		if atomic.CompareAndSwapUint64(word, w, w|stateFrame|stateDirty) {
			m.framed(w)
			return m.frameAt(p), nil
		}
	}
}

// FreshFrame returns a writable DRAM page of zeros for p, marked dirty; the
// device is not read. It begins a new life of p: the version grows, readers of
// the old one retry. The caller alone changes p.
func (m *Map) FreshFrame(p PageID) (*[PageBytes]byte, error) {
	word := m.word(p)
	began := false
	for {
		w := atomic.LoadUint64(word)
		if w&stateDropping != 0 {
			runtime.Gosched()
			continue
		}
		if w&stateFrame != 0 && !began {
			// Readers of the old life must not find its remains valid.
			began = w&stateChanging == 0
			if began {
				m.BeginChange(p)
				w |= stateChanging
			}
			clear(m.frameAt(p)[:])
		}
		next := (w + stateVersion) &^ stateVerified
		if began {
			next &^= stateChanging
		}
		if atomic.CompareAndSwapUint64(word, w, next|stateFrame|stateDirty) {
			m.framed(w)
			return m.frameAt(p), nil
		}
	}
}

// framed counts the frame that a page whose word was w just got.
func (m *Map) framed(w uint64) {
	if w&stateFrame == 0 {
		m.counters.frames.Add(1)
	}
}

// fill copies p from the device to its place in the mirror.
func (m *Map) fill(p PageID) error {
	frame := m.frameAt(p)
	if m.device == nil {
		return m.dev.Read(p.Off(), frame[:])
	}
	return copyGuarded(frame[:], m.device, int64(p.Off()))
}

// Clean notes that the device has the bytes of p: the caller wrote them back
// and fenced, and p did not change since. A page without a dirty frame is left
// alone.
func (m *Map) Clean(p PageID) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&stateDirty == 0 || atomic.CompareAndSwapUint64(word, w, w&^stateDirty) {
			return
		}
	}
}

// Drop gives the clean frames of ps back to the system; runs of neighbours in
// ps cost one system call. Readers of them retry and find the same bytes on the
// device. Pages that have no frame, or a dirty one, or are being changed, are
// left alone.
func (m *Map) Drop(ps []PageID) {
	for len(ps) > 0 {
		n := 0
		for n < len(ps) && (n == 0 || ps[n] == ps[n-1]+1) && m.beginDrop(ps[n]) {
			n++
		}
		if n == 0 {
			ps = ps[1:]
			continue
		}
		m.dropRun(ps[0], n)
		ps = ps[n:]
	}
}

// beginDrop turns readers of p to the device, and keeps Frame from using the
// memory until dropRun is through.
func (m *Map) beginDrop(p PageID) bool {
	const busy = stateDirty | stateChanging | stateDropping
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&(stateFrame|busy) != stateFrame {
			return false
		}
		next := (w + stateVersion) | stateDropping
		if atomic.CompareAndSwapUint64(word, w, next&^(stateFrame|stateVerified)) {
			return true
		}
	}
}

func (m *Map) dropRun(first PageID, n int) {
	from := int64(first) * PageBytes
	err := m.mirror.drop(from, from+int64(n)*PageBytes)
	for i := range n {
		p := first + PageID(i)
		if err != nil { // the memory is still there; later frames start from zero all the same
			clear(m.frameAt(p)[:])
		}
		atomic.AndUint64(m.word(p), ^uint64(stateDropping))
	}
	m.counters.frames.Add(-int64(n))
	m.counters.drops.Add(uint64(n))
}
