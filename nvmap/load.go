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

// Mode is how a map that is used through Load and Store moves bytes. Whatever
// the mode, and whenever it changes, the bytes read are the ones written last.
type Mode uint32

const (
	// InPlace is for owners that read and change pages themselves, with Page,
	// Frame, View and Write. Load works; Store and SetMode are refused.
	InPlace Mode = iota

	// Cached reads and writes go through frames: a miss copies the page.
	Cached

	// Direct reads go to the device, in place where it is mapped, unless the page
	// has a frame; writes go to the device.
	Direct

	// DirectProtect reads as Direct does. The first write to a page moves it to a
	// frame, which takes all others until it is written back.
	DirectProtect
)

var modeNames = [...]string{"in-place", "cached", "direct", "direct-protect"}

func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// ModeNamed returns the mode of a name: "cached", "direct" or "direct-protect".
func ModeNamed(name string) (Mode, error) {
	if i := slices.Index(modeNames[:], name); i > 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("nvmap: no mode %q; there are cached, direct and direct-protect", name)
}

// bytesState is what Load and Store need beyond pages and frames.
type bytesState struct {
	mode   atomic.Uint32
	wait   atomic.Int64 // nanoseconds by which each access to the device is delayed
	evict  sync.Mutex   // one goroutine evicts, the others wait for it
	back   sync.Mutex   // held while pages are written back, so that no two writes of one meet
	mu     sync.Mutex   // guards dirty and failed
	dirty  map[PageID]struct{}
	failed error // of a write-back that nobody was told of
}

// Mode returns how the map moves bytes.
func (m *Map) Mode() Mode { return Mode(m.bytes.mode.Load()) }

// SetMode changes how bytes move, at any time. Frames stay until they are
// written back or evicted. A device that is not mapped is always Cached.
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

// SetDelay delays each access to the device by d: reads of frames, reads in
// place through Load, writes and write-backs. Pages that are read or written back
// together are one access. It stands for a slower medium in measurements; 0 ends
// it.
func (m *Map) SetDelay(d time.Duration) { m.bytes.wait.Store(int64(d)) }

// delay waits as SetDelay says. It spins: sleeping is too coarse.
func (m *Map) delay() {
	if d := m.bytes.wait.Load(); d > 0 {
		for began := time.Now(); time.Since(began) < time.Duration(d); {
			runtime.Gosched()
		}
	}
}

// Load fills p with the newest bytes at off. Within a page it shows one instant,
// between the writes of others. It takes no lock.
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
	asked := false // for a frame, in vain or not
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
				// Where the page cannot be read, the bytes asked for perhaps can.
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

// readsThroughFrames says whether a miss asks for a frame.
func (m *Map) readsThroughFrames() bool {
	return m.device == nil && m.cache.limit > 0 || m.Mode() == Cached
}

func (m *Map) hit(id PageID) {
	m.Touch(id)
	m.counters.hits.add()
}

func (m *Map) miss() { m.counters.misses.add() }

// loadDirect copies from the device: in place, or a page at a time.
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
	if m.dev.Read(id.Off(), whole[:]) != nil { // the rest of the page may be what is bad
		return m.dev.Read(id.Off()+Off(at), p)
	}
	copy(p, whole[at:])
	return nil
}

var pageBuffers = sync.Pool{New: func() any { return new([PageBytes]byte) }}

// Store writes p at off, as the mode says. Readers see the bytes when it
// returns, page by page; Sync makes them durable. Stores that overlap come in
// some order, page by page. It may return the error of an eviction.
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
			toFrame = ok // else there is no room: through to the device
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

// lockPage is BeginChange for pages that several may change: it waits its turn.
// It returns the word as it is now.
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

// writeCoherent is a write to the device of pages that may have clean frames:
// they get the bytes too, and one that is being filled is filled again.
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

// Sync makes every Store that returned before it was called durable.
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

// takeFailure returns the error of a write-back that a Load caused: the pages
// are dirty still, and the next write-back tries again.
func (m *Map) takeFailure() error {
	b := &m.bytes
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.failed
	b.failed = nil
	return err
}

// makeRoom evicts a batch, or waits for whoever does.
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

// writeBackAround is writeBackOwn of victims, which are sorted, and of the dirty
// pages behind each: what was written in order is written back in longer runs,
// with fewer fences, and the next victims are clean.
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

// neighboursMax is how many pages go along with a batch of victims.
const neighboursMax = 4 * evictBatch

// writeBackOwn writes dirty pages back, neighbours together, and, after a fence,
// calls those clean that did not change meanwhile. ps is sorted. The fence covers
// what went straight to the device before, and comes also where ps is empty.
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
			i++ // clean by now
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

// gather copies dirty frames of ps, from the first on, as long as they are
// neighbours, and returns how many. It notes the version of each that it saw.
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

// cleanIf calls p clean if it is as it was at version v.
func (m *Map) cleanIf(p PageID, v Version) {
	b := &m.bytes
	b.mu.Lock() // whoever makes it dirty again puts it on the list again, after this
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
