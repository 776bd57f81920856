package nvmap

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Mode says how a map that is used through Load and Store moves bytes. In every mode, and across
// changes of mode, a read returns the bytes written last.
type Mode uint32

const (
	// InPlace is for owners that read and change pages themselves, with Page, Frame, View and
	// Write. Load works. Store and SetMode return an error.
	InPlace Mode = iota

	// Cached reads and writes through frames. A miss copies the page.
	Cached

	// Direct reads from the device, in place if it is mapped, unless the page has a frame. Writes
	// go to the device.
	Direct

	// DirectProtect reads as Direct does. The first write to a page moves it to a frame, which
	// takes all further writes until it is written back.
	DirectProtect
)

var modeNames = [...]string{"in-place", "cached", "direct", "direct-protect"}

func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// ModeNamed returns the mode with the given name: "cached", "direct" or "direct-protect".
func ModeNamed(name string) (Mode, error) {
	if i := slices.Index(modeNames[:], name); i > 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("nvmap: no mode %q; there are cached, direct and direct-protect", name)
}

// bytesState is the state that Load and Store need beyond pages and frames.
type bytesState struct {
	mode   atomic.Uint32
	wait   atomic.Int64 // delay of each access to the device, in nanoseconds
	evict  sync.Mutex   // one goroutine evicts, the others wait for it
	back   sync.Mutex   // held during a write-back, so that two writes of one page never overlap
	mu     sync.Mutex   // guards dirty and failed
	dirty  map[PageID]struct{}
	failed error // error of a write-back that no caller has received yet
}

// Mode returns how the map moves bytes.
func (m *Map) Mode() Mode { return Mode(m.bytes.mode.Load()) }

// SetMode changes the mode. It may be called at any time. Frames stay until they are written back
// or evicted. A device without a mapping can only be Cached.
func (m *Map) SetMode(mode Mode) error {
	switch {
	case mode == InPlace || int(mode) >= len(modeNames):
		return fmt.Errorf("nvmap: a map cannot be switched to mode %q", mode)
	case m.Mode() == InPlace:
		return errors.New("nvmap: this map is read in place: its mode was chosen when it was made")
	case mode != Cached && m.device == nil:
		return fmt.Errorf("nvmap: mode %q needs a device that the CPU can map, and %q is none", mode, m.dev.Info().Kind)
	}
	m.bytes.mode.Store(uint32(mode))
	return nil
}

// SetDelay delays each access to the device by d, to imitate a slower medium in measurements. It
// applies to reads of frames, reads in place through Load, writes and write-backs. Pages that are
// read or written back together are one access. 0 ends the delay.
func (m *Map) SetDelay(d time.Duration) { m.bytes.wait.Store(int64(d)) }

// delay waits for the time that SetDelay set. It spins, because sleeping is too coarse.
func (m *Map) delay() {
	if d := m.bytes.wait.Load(); d > 0 {
		for began := time.Now(); time.Since(began) < time.Duration(d); {
			runtime.Gosched()
		}
	}
}

// Load fills p with the newest bytes at off. Within a page p shows one instant, between the writes
// of other goroutines. Load takes no lock.
func (m *Map) Load(off Off, p []byte) error {
	if err := m.checkBytes("load", off, len(p)); err != nil {
		return err
	}
	if m.batch != nil && len(p) > PageBytes && m.readsThroughFrames() {
		return m.loadTogether(off, p)
	}
	return m.loadPages(off, p)
}

func (m *Map) loadPages(off Off, p []byte) error {
	for len(p) > 0 {
		at := int(off % PageBytes)
		n := min(len(p), PageBytes-at)
		if err := m.loadPage(off.Page(), at, p[:n]); err != nil {
			return err
		}
		off, p = off+Off(n), p[n:]
	}
	return nil
}

func (m *Map) checkBytes(op string, off Off, n int) error {
	if m.closed.Load() {
		return ErrClosed
	}
	return checkRange(op, off, int64(n), m.size.Load())
}

func (m *Map) loadPage(id PageID, at int, p []byte) error {
	asked := false // whether a frame was asked for, with or without success
	for {
		v, ok := m.ReadBegin(id)
		if !ok {
			runtime.Gosched()
			continue
		}
		if uint64(v)&stateFrame != 0 {
			m.races.RLock()
			copy(p, m.frameAt(id)[at:])
			m.races.RUnlock()
			if m.ReadValid(id, v) {
				if !asked {
					m.hit(id)
				}
				return nil
			}
			continue
		}
		if !asked {
			asked = true
			m.miss()
			if m.readsThroughFrames() {
				if m.batch != nil && m.Mode() == Cached {
					m.follow(id)
				}
				// If the whole page cannot be read, the wanted bytes perhaps can.
				if ok, _ := m.fetch(id, false); ok {
					continue
				}
			}
		}
		if err := m.loadDirect(id, at, p); err != nil {
			return err
		}
		if m.ReadValid(id, v) {
			m.counters.directs.add()
			return nil
		}
	}
}

// readsThroughFrames reports whether a miss asks for a frame.
func (m *Map) readsThroughFrames() bool {
	return m.device == nil && m.cache.limit > 0 || m.Mode() == Cached
}

func (m *Map) hit(id PageID) {
	m.Touch(id)
	m.counters.hits.add()
}

func (m *Map) miss() { m.counters.misses.add() }

// loadDirect copies from the device: in place, or by reading the whole page.
func (m *Map) loadDirect(id PageID, at int, p []byte) error {
	m.delay()
	m.races.RLock()
	defer m.races.RUnlock()
	if m.device != nil {
		return copyGuarded(p, m.device, int64(id.Off())+int64(at))
	}
	if len(p) == PageBytes {
		return m.dev.Read(id.Off(), p)
	}
	whole := pageBuffers.Get().(*[PageBytes]byte)
	defer pageBuffers.Put(whole)
	if m.dev.Read(id.Off(), whole[:]) != nil { // the fault may lie in another part of the page
		return m.dev.Read(id.Off()+Off(at), p)
	}
	copy(p, whole[at:])
	return nil
}

var pageBuffers = sync.Pool{New: func() any { return new([PageBytes]byte) }}

// Store writes p at off, as the mode says. Readers see the bytes when Store returns, page by page.
// Sync makes them durable. Overlapping Stores take effect in some order, page by page. Store may
// return the error of an earlier eviction.
func (m *Map) Store(off Off, p []byte) error {
	if err := m.checkBytes("store", off, len(p)); err != nil {
		return err
	}
	if m.Mode() == InPlace {
		return errors.New("nvmap: Store needs a map that was made with a Mode")
	}
	if err := m.takeFailure(); err != nil {
		return err
	}
	for len(p) > 0 {
		at := int(off % PageBytes)
		n := min(len(p), PageBytes-at)
		if err := m.storePage(off.Page(), at, p[:n]); err != nil {
			return err
		}
		off, p = off+Off(n), p[n:]
	}
	return nil
}

func (m *Map) storePage(id PageID, at int, p []byte) error {
	toFrame := m.Mode() != Direct
	for {
		if toFrame && m.Where(id) == OnDevice {
			m.miss()
			ok, err := m.fetch(id, true)
			if err != nil {
				return err
			}
			toFrame = ok // if there is no room, write to the device
		}
		w := m.lockPage(id)
		if w&stateFrame == 0 && toFrame {
			m.unlockPage(id)
			continue
		}
		if w&stateDirty != 0 || toFrame {
			m.storeFrame(id, at, p, w)
			m.unlockPage(id)
			return nil
		}
		err := m.writeLocked(id.Off()+Off(at), p)
		if err == nil {
			err = m.Show() // before readers look at the mapping again
		}
		m.unlockPage(id)
		if err == nil {
			m.counters.wroteBeside(id.Off()+Off(at), len(p))
		}
		return err
	}
}

// storeFrame changes the frame of a page that is locked.
func (m *Map) storeFrame(id PageID, at int, p []byte, w uint64) {
	m.races.Lock()
	copy(m.frameAt(id)[at:], p)
	m.races.Unlock()
	m.dirtied(w)
	atomic.OrUint64(m.word(id), partsOf(at, at+len(p)))
	m.Touch(id)
	if w&stateDirty == 0 {
		b := &m.bytes
		b.mu.Lock()
		if b.dirty == nil {
			b.dirty = map[PageID]struct{}{}
		}
		b.dirty[id] = struct{}{}
		b.mu.Unlock()
	}
}

// lockPage is BeginChange for pages that several goroutines may change: it waits until no other
// changes the page. It returns the new state word.
func (m *Map) lockPage(id PageID) uint64 {
	word := m.word(id)
	for {
		w := atomic.LoadUint64(word)
		if w&stateChanging == 0 && atomic.CompareAndSwapUint64(word, w, w|stateChanging) {
			storeBarrier()
			return w | stateChanging
		}
		runtime.Gosched()
	}
}

func (m *Map) unlockPage(id PageID) { m.EndChange(id) }

// writeCoherent writes to the device pages that may have clean frames. The frames get the bytes
// too, and a frame that is being filled is filled again.
func (m *Map) writeCoherent(off Off, p []byte) error {
	if err := m.checkBytes("write", off, len(p)); err != nil || len(p) == 0 {
		return err
	}
	first, last := off.Page(), (off + Off(len(p)) - 1).Page()
	for id := first; id <= last; id++ {
		m.lockPage(id)
	}
	err := m.writeLocked(off, p)
	for id := first; id <= last; id++ {
		m.unlockPage(id)
	}
	return err
}

func (m *Map) writeLocked(off Off, p []byte) error {
	m.delay()
	m.races.Lock()
	defer m.races.Unlock()
	if err := m.dev.Write(off, p); err != nil {
		return err
	}
	for len(p) > 0 {
		at := int(off % PageBytes)
		n := min(len(p), PageBytes-at)
		id := off.Page()
		if atomic.LoadUint64(m.word(id))&(stateFrame|stateLeaving) != 0 {
			copy(m.frameAt(id)[at:], p[:n])
		}
		off, p = off+Off(n), p[n:]
	}
	return nil
}

// Sync makes durable every Store that returned before the call.
func (m *Map) Sync() error {
	if m.closed.Load() {
		return ErrClosed
	}
	if err := m.takeFailure(); err != nil {
		return err
	}
	b := &m.bytes
	b.mu.Lock()
	ps := make([]PageID, 0, len(b.dirty))
	for p := range b.dirty {
		ps = append(ps, p)
	}
	b.mu.Unlock()
	slices.Sort(ps)
	return m.writeBackOwn(ps)
}

// takeFailure returns the error of a write-back that a Load caused, and clears it. The pages are
// still dirty, and the next write-back tries again.
func (m *Map) takeFailure() error {
	b := &m.bytes
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.failed
	b.failed = nil
	return err
}

// makeRoom evicts a batch, or waits for the goroutine that is doing so.
func (m *Map) makeRoom() {
	b := &m.bytes
	b.evict.Lock()
	defer b.evict.Unlock()
	if m.Room() > 0 {
		return
	}
	if _, err := m.Evict(evictBatch, Eviction{WriteBack: m.writeBackAround}); err != nil {
		b.mu.Lock()
		b.failed = errors.Join(b.failed, err)
		b.mu.Unlock()
	}
}

// writeBackAround is writeBackOwn for victims, which are sorted, and for the dirty pages that
// follow each. Pages written in order are then written back in longer runs, with fewer fences, and
// the next victims are clean.
func (m *Map) writeBackAround(ps []PageID) error {
	all := make([]PageID, 0, len(ps)+neighboursMax)
	spare := neighboursMax
	for i, p := range ps {
		all = append(all, p)
		next := PageID(m.size.Load() / PageBytes)
		if i+1 < len(ps) {
			next = ps[i+1]
		}
		for p++; p < next && spare > 0 && m.DirtyParts(p) != 0; p++ {
			all = append(all, p)
			spare--
		}
	}
	return m.writeBackOwn(all)
}

// neighboursMax bounds the pages that are written back along with a batch of victims.
const neighboursMax = 4 * evictBatch

// writeBackOwn writes dirty pages back, neighbours together, and fences. Then it marks as clean the
// pages that have not changed meanwhile. ps is sorted. The fence also covers earlier writes to the
// device, and comes even if ps is empty.
func (m *Map) writeBackOwn(ps []PageID) error {
	b := &m.bytes
	b.back.Lock()
	defer b.back.Unlock()
	written := make([]Version, len(ps))
	buf := runBuffers.Get().(*runBuffer)
	defer runBuffers.Put(buf)
	for i := 0; i < len(ps); {
		n := m.gather(ps[i:], written[i:], buf)
		if n == 0 {
			i++ // the page has become clean
			continue
		}
		m.delay()
		if err := m.dev.Write(ps[i].Off(), buf.bytes(n)); err != nil {
			return err
		}
		m.counters.backed(ps[i].Off(), n*PageBytes, n)
		i += n
	}
	if err := m.Fence(); err != nil {
		return err
	}
	for i, p := range ps {
		m.cleanIf(p, written[i])
	}
	return nil
}

// runBuffer holds copies of neighbouring pages on their way to the device.
type runBuffer [16][PageBytes]byte

// bytes returns the first n pages.
func (b *runBuffer) bytes(n int) []byte {
	return unsafe.Slice(&b[0][0], n*PageBytes)
}

var runBuffers = sync.Pool{New: func() any { return new(runBuffer) }}

// gather copies dirty frames of ps, from the first on, as long as they are neighbours, and returns
// their number. It notes the version of each copy.
func (m *Map) gather(ps []PageID, seen []Version, buf *runBuffer) (n int) {
	for n < len(ps) && n < len(buf) && ps[n] == ps[0]+PageID(n) {
		v, dirty := m.snapshot(ps[n], &buf[n])
		if seen[n] = v; !dirty {
			break
		}
		n++
	}
	return n
}

// snapshot copies the frame of p as it was at one instant, if it is dirty.
func (m *Map) snapshot(p PageID, buf *[PageBytes]byte) (v Version, dirty bool) {
	for {
		v, ok := m.ReadBegin(p)
		if !ok {
			runtime.Gosched()
			continue
		}
		if uint64(v)&stateDirty == 0 {
			return v, false
		}
		m.races.RLock()
		*buf = *m.frameAt(p)
		m.races.RUnlock()
		if m.ReadValid(p, v) {
			return v, true
		}
	}
}

// cleanIf marks p clean if its version is still v.
func (m *Map) cleanIf(p PageID, v Version) {
	b := &m.bytes
	b.mu.Lock() // a Store that makes p dirty again puts it on the list after this
	defer b.mu.Unlock()
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case (w^uint64(v))&stateSeen != 0:
			return
		case w&stateDirty == 0:
			delete(b.dirty, p)
			return
		case atomic.CompareAndSwapUint64(word, w, w&^stateDirty):
			m.counters.dirty.Add(-1)
			delete(b.dirty, p)
			return
		}
	}
}
