package nvmap

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// cache bounds the frames of a map and asks a policy which of them to keep.
type cache struct {
	limit  int64 // frames; 0: no bound, and no policy
	policy Policy
	touch  func(PageID)   // the policy's, if it is a Toucher; else nil
	press  func()         // MapOptions.Pressed; nil where the map evicts by itself
	used   atomic.Int64   // frames counted; a stretch of huge pages counts whole
	mu     sync.Mutex     // guards policy and the fields below; not held during I/O
	huge   map[int64]bool // stretches of huge pages that are counted whole
	noHuge bool           // huge pages were given up
}

// cacheMinBytes is the smallest bound that NewMap accepts: room for a few batches of victims.
const cacheMinBytes = 1 << 20

// evictBatch is the least number of frames that an eviction asks the policy for. Giving memory back
// interrupts all CPUs, so small evictions are dear.
const evictBatch = 64

// name returns the name of the policy, "" without one.
func (c *cache) name() string {
	if c.policy == nil {
		return ""
	}
	return c.policy.Name()
}

// setCache sets the bound and the policy. NewMap calls it before the map is used.
func (m *Map) setCache(o *MapOptions) error {
	if o.CacheBytes == 0 {
		if o.Policy != nil || o.Pressed != nil {
			return errors.New("nvmap: a cache policy needs CacheBytes")
		}
		return nil
	}
	if o.CacheBytes < cacheMinBytes {
		return fmt.Errorf("nvmap: CacheBytes of %d is less than the least, %d", o.CacheBytes, cacheMinBytes)
	}
	if o.HugeFrames {
		return errors.New("nvmap: HugeFrames commit more than CacheBytes could bound: choose one")
	}
	c := &m.cache
	c.limit = o.CacheBytes / PageBytes
	c.huge = map[int64]bool{}
	c.press = o.Pressed
	if c.policy = o.Policy; c.policy == nil {
		c.policy = policies[DefaultPolicy]()
	}
	if t, ok := c.policy.(Toucher); ok {
		c.touch = t.Touch
	}
	return nil
}

// Room returns the number of frames that may still be made before the bound is reached. It is
// negative above the bound, and very large where there is no bound.
func (m *Map) Room() int {
	if m.cache.limit == 0 {
		return math.MaxInt / 2
	}
	return int(m.cache.limit - m.cache.used.Load())
}

// CacheFrames returns the bound in frames, 0 where there is none.
func (m *Map) CacheFrames() int { return int(m.cache.limit) }

// Touch notes that p was read. The policy learns of it. A second Touch of the same page is cheap.
func (m *Map) Touch(p PageID) {
	word := m.word(p)
	if atomic.LoadUint64(word)&stateTouched == 0 {
		atomic.OrUint64(word, stateTouched)
		if m.cache.touch != nil {
			m.cache.touch(p)
		}
	}
}

// Known reports whether p is both verified and touched: see SetVerified and Touch. It lets readers
// on a hot path check both bits with one load.
func (m *Map) Known(p PageID) bool {
	const known = stateVerified | stateTouched
	return atomic.LoadUint64(m.word(p))&known == known
}

// enrol counts the frame that the busy page p is about to get. It returns false if limit frames are
// counted already, where limit is most.
func (m *Map) enrol(p PageID, most int64) bool {
	c := &m.cache
	if c.limit == 0 {
		m.counters.frames.Add(1)
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.huge[m.hugeOf(p)] {
		if c.used.Load() >= most {
			return false
		}
		c.used.Add(1)
	}
	m.counters.frames.Add(1)
	atomic.OrUint64(m.word(p), stateCounted)
	c.policy.Insert(p)
	return true
}

// strike is the opposite of enrol, for n neighbouring pages.
func (m *Map) strike(first PageID, n int) {
	m.counters.frames.Add(-int64(n))
	c := &m.cache
	if c.limit == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := first; p < first+PageID(n); p++ {
		if !c.huge[m.hugeOf(p)] {
			c.used.Add(-1)
		}
		atomic.AndUint64(m.word(p), ^uint64(stateCounted))
		c.policy.Remove(p)
	}
}

const framesPerHuge = hugeBytes / PageBytes

func (m *Map) hugeOf(p PageID) int64 { return int64(p) / framesPerHuge }

// PreferHuge asks for huge pages behind the frames of [off, off+n), which must lie below End. It is
// for stretches in which nearly all pages will have frames. The first frame in a huge page then
// commits the whole of it. Under a bound, huge pages count whole from the call on, may take half of
// the bound, and are given up when frames must be evicted.
func (m *Map) PreferHuge(off Off, n int64) {
	if m.cache.limit == 0 {
		m.mu.Lock() // opened may grow at the same time
		defer m.mu.Unlock()
		m.mirror.preferHuge(int64(off), min(int64(off)+n, m.opened))
		return
	}
	from, to := inward(off, n, hugeBytes)
	for at := from; at < to; at += hugeBytes {
		m.countHuge(at / hugeBytes)
	}
}

// countHuge counts a stretch of huge pages whole, if there is room for it.
func (m *Map) countHuge(h int64) {
	c := &m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noHuge || c.huge[h] || int64(len(c.huge)+1)*framesPerHuge > c.limit/2 || c.used.Load()+framesPerHuge > c.limit {
		return
	}
	c.used.Add(framesPerHuge - m.countedIn(h))
	c.huge[h] = true
	m.mirror.preferHuge(h*hugeBytes, (h+1)*hugeBytes)
}

// countedIn returns the number of pages of stretch h that are counted.
func (m *Map) countedIn(h int64) (n int64) {
	for p := PageID(h * framesPerHuge); p < PageID((h+1)*framesPerHuge); p++ {
		if atomic.LoadUint64(m.word(p))&stateCounted != 0 {
			n++
		}
	}
	return n
}

// giveUpHuge counts pages one by one from now on. It gives back the memory of pages without a
// frame.
func (m *Map) giveUpHuge() {
	c := &m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noHuge = true
	for h := range c.huge {
		delete(c.huge, h)
		m.mirror.avoidHuge(h*hugeBytes, (h+1)*hugeBytes)
		first := PageID(h * framesPerHuge)
		for p := first; p < first+framesPerHuge; {
			n := PageID(0)
			for p+n < first+framesPerHuge && m.claimEmpty(p+n) {
				n++
			}
			if n == 0 {
				p++
				continue
			}
			m.emptied(p, int(n))
			for i := range n {
				atomic.AndUint64(m.word(p+i), ^uint64(stateBusy))
			}
			p += n
		}
		c.used.Add(m.countedIn(h) - framesPerHuge)
	}
}

// claimEmpty makes a page without a frame busy.
func (m *Map) claimEmpty(p PageID) bool {
	word := m.word(p)
	w := atomic.LoadUint64(word)
	return w&(stateFrame|stateLeaving|stateBusy) == 0 && atomic.CompareAndSwapUint64(word, w, w|stateBusy)
}

// Fetch gives p a clean frame, if the policy admits p and the bound leaves room, and reports
// whether p has a frame now. Where the frames run short it calls Pressed, or evicts if the map has
// no Pressed. The error is that of reading the device.
func (m *Map) Fetch(p PageID) (bool, error) {
	if atomic.LoadUint64(m.word(p))&stateFrame != 0 {
		m.hit(p)
		return true, nil
	}
	m.miss()
	return m.fetch(p, false)
}

func (m *Map) fetch(p PageID, write bool) (bool, error) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		switch {
		case w&stateFrame != 0:
			return true, nil
		case w&(stateBusy|stateChanging) != 0:
			runtime.Gosched()
		case w&stateLeaving != 0:
			if atomic.CompareAndSwapUint64(word, w, w&^stateLeaving|stateFrame) {
				return true, nil
			}
		case m.cache.limit > 0 && !m.cache.policy.Admit(p, write):
			return false, nil
		case atomic.CompareAndSwapUint64(word, w, w|stateBusy):
			if !m.enrol(p, m.mayFetch()) {
				atomic.AndUint64(word, ^uint64(stateBusy))
				return false, nil
			}
			m.counters.admissions.Add(1)
			return m.fetchBusy(p)
		}
	}
}

// fetchBusy fills the frame that fetch claimed. If a write changes the page between the read and
// the publication, fetchBusy reads again.
func (m *Map) fetchBusy(p PageID) (bool, error) {
	word := m.word(p)
	for {
		w := atomic.LoadUint64(word)
		if w&stateChanging != 0 {
			runtime.Gosched()
			continue
		}
		if err := m.fill(p); err != nil {
			m.abandon(p)
			return false, err
		}
		for {
			now := atomic.LoadUint64(word)
			if (now^w)&stateSeen != 0 {
				break
			}
			if atomic.CompareAndSwapUint64(word, now, now&^stateBusy|stateFrame) {
				return true, nil
			}
		}
	}
}

// reserve returns the number of frames that reads leave to the owner's changes.
func (c *cache) reserve() int64 { return c.limit / 8 }

// mayFetch returns the bound on frames for a frame that a read makes. Near the bound it presses the
// owner, or evicts.
func (m *Map) mayFetch() int64 {
	c := &m.cache
	if c.press != nil {
		if c.limit-c.used.Load() <= 2*c.reserve() {
			c.press()
		}
		return c.limit - c.reserve()
	}
	if c.used.Load() >= c.limit {
		m.makeRoom()
	}
	return c.limit
}

// Eviction tells Evict how to take frames away from their users.
type Eviction struct {
	// Quiesce returns when no reader still uses a pointer that Page or Frame returned before the
	// call. The memory of frames is given back only after that. nil: readers validate the pages
	// that they read.
	Quiesce func()

	// WriteBack gets dirty pages that the policy has chosen. It cleans as many as it can: it writes
	// them back, fences, and calls Clean. nil: dirty pages keep their frames.
	WriteBack func(ps []PageID) error
}

// Evict gives back up to n frames, or a few more, and returns how many. It may be called from
// several goroutines. Fewer frames go when the others are dirty or in use. The error is that of
// WriteBack.
func (m *Map) Evict(n int, e Eviction) (freed int, err error) {
	c := &m.cache
	if c.limit == 0 || n <= 0 {
		return 0, nil
	}
	before := c.used.Load()
	if c.giveUp() {
		m.giveUpHuge()
		freed = int(before - c.used.Load())
	}
	most, seen := 2*int(m.counters.frames.Load()), 0 // frames to look at: some may have to stay
	for freed < n && seen < most && err == nil {
		c.mu.Lock()
		ps := c.policy.Victims(nil, max(n-freed, evictBatch), m.untouch)
		c.mu.Unlock()
		if len(ps) == 0 {
			break
		}
		seen += len(ps)
		var k int
		k, err = m.evict(ps, e)
		freed += k
	}
	return freed, err
}

// giveUp reports whether there are huge pages to give up.
func (c *cache) giveUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.huge) > 0
}

// evict takes the frames of ps.
func (m *Map) evict(ps []PageID, e Eviction) (freed int, err error) {
	slices.Sort(ps) // neighbours share system calls
	var away, dirty []PageID
	for _, p := range ps {
		switch {
		case m.turnAway(p):
			away = append(away, p)
		case e.WriteBack != nil && m.DirtyParts(p) != 0:
			dirty = append(dirty, p)
		default:
			m.stay(p)
		}
	}
	if len(dirty) > 0 {
		err = e.WriteBack(dirty)
		for _, p := range dirty {
			if m.turnAway(p) {
				away = append(away, p)
			} else {
				m.stay(p)
			}
		}
		slices.Sort(away)
	}
	if e.Quiesce != nil && len(away) > 0 {
		e.Quiesce()
	}
	freed = m.reclaim(away, m.stay)
	m.counters.evictions.Add(uint64(freed))
	return freed, err
}

// stay tells the policy that a victim still has its frame.
func (m *Map) stay(p PageID) {
	c := &m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if atomic.LoadUint64(m.word(p))&stateCounted != 0 {
		c.policy.Insert(p)
	}
}

// untouch reports whether p was touched, and clears the mark.
func (m *Map) untouch(p PageID) bool {
	return atomic.AndUint64(m.word(p), ^uint64(stateTouched))&stateTouched != 0
}
