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
	touch  func(PageID)   // of a policy that hears of reads; else nil
	press  func()         // the owner's; nil where the map evicts by itself
	used   atomic.Int64   // frames counted, those of huge pages whole
	mu     sync.Mutex     // guards policy and what follows; held for no I/O
	huge   map[int64]bool // stretches of huge pages that are counted whole
	noHuge bool           // huge pages were given up
}

// cacheMinBytes is the smallest bound: a few batches of victims.
const cacheMinBytes = 1 << 20

// evictBatch is how many frames an eviction takes at least, where there are as
// many: giving memory back interrupts all CPUs.
const evictBatch = 64

// name is the policy's.
func (c *cache) name() string {
	if c.policy == nil {
		return ""
	}
	return c.policy.Name()
}

// setCache is called before the map is used.
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

// Room returns how many frames may be made before the bound is reached; without
// a bound, very many.
func (m *Map) Room() int {
	if m.cache.limit == 0 {
		return math.MaxInt / 2
	}
	return int(m.cache.limit - m.cache.used.Load())
}

// CacheFrames returns the bound in frames, 0 where there is none.
func (m *Map) CacheFrames() int { return int(m.cache.limit) }

// Touch notes that p was read: the policy will hear of it. It is cheap when it
// was noted already.
func (m *Map) Touch(p PageID) {
	word := m.word(p)
	if atomic.LoadUint64(word)&stateTouched == 0 {
		atomic.OrUint64(word, stateTouched)
		if m.cache.touch != nil {
			m.cache.touch(p)
		}
	}
}

// Known reports whether p was both verified and touched: see SetVerified and
// Touch. Readers on a hot path look at both bits at once.
func (m *Map) Known(p PageID) bool {
	const known = stateVerified | stateTouched
	return atomic.LoadUint64(m.word(p))&known == known
}

// enrol counts the frame that p, which is busy, is about to get, unless as many
// as most are counted already.
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

// strike is the opposite of enrol, for n neighbours.
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

// PreferHuge asks for huge pages behind the frames of [off, off+n), which must
// be open: for stretches whose pages will nearly all have frames. The first of
// them then commits the whole huge page. Under a bound, huge pages count whole
// from when they are asked for, get half of it at most, and are given up when
// frames have to go.
func (m *Map) PreferHuge(off Off, n int64) {
	if m.cache.limit == 0 {
		m.mu.Lock() // the mirror may be opened further beside this
		defer m.mu.Unlock()
		m.mirror.preferHuge(int64(off), min(int64(off)+n, m.opened))
		return
	}
	from, to := inward(off, n, hugeBytes)
	for at := from; at < to; at += hugeBytes {
		m.countHuge(at / hugeBytes)
	}
}

// countHuge makes a stretch of huge pages count whole, if there is room for it.
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

// countedIn returns how many pages of a stretch are counted.
func (m *Map) countedIn(h int64) (n int64) {
	for p := PageID(h * framesPerHuge); p < PageID((h+1)*framesPerHuge); p++ {
		if atomic.LoadUint64(m.word(p))&stateCounted != 0 {
			n++
		}
	}
	return n
}

// giveUpHuge has pages counted one by one from now on, and gives the memory of
// those back that have no frame.
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

// Fetch gives p a clean frame, if the policy wants it to have one and the bound
// leaves room, and says whether it has one now. Where there is no room an owner
// is pressed, and a map without one evicts.
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

// fetchBusy fills the frame that begin claimed. A write that came between
// reading and publishing is met by reading again.
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

// reserve is how many frames reading leaves to an owner's changes.
func (c *cache) reserve() int64 { return c.limit / 8 }

// mayFetch returns how many frames there may be for one more to be made by a
// read. It presses the owner, or evicts, when there are nearly as many.
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

// Eviction says how an owner has frames taken.
type Eviction struct {
	// Quiesce returns when nobody can still use what Page or Frame returned
	// before it was called. The memory of frames goes only after that. nil:
	// whoever reads pages validates what was read.
	Quiesce func()

	// WriteBack is given dirty pages that the policy wants to go. It makes those
	// that it can clean: writes them back, fences, and calls Clean. nil: dirty
	// pages stay.
	WriteBack func(ps []PageID) error
}

// Evict takes up to n frames and returns how many went. It may be called from
// several goroutines. Fewer go when the others are dirty, or in use.
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
	most, seen := 2*int(m.counters.frames.Load()), 0 // looked at: some may have to stay
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

// giveUp says whether there are huge pages to give up.
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

// stay tells the policy that a victim has its frame still.
func (m *Map) stay(p PageID) {
	c := &m.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if atomic.LoadUint64(m.word(p))&stateCounted != 0 {
		c.policy.Insert(p)
	}
}

// untouch reports whether p was touched, and forgets it.
func (m *Map) untouch(p PageID) bool {
	return atomic.AndUint64(m.word(p), ^uint64(stateTouched))&stateTouched != 0
}
