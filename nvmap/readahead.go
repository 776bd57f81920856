package nvmap

import (
	"slices"
	"sync/atomic"
)

// If a batch of reads is faster than single reads, pages are read before they are asked for: the
// pages that an owner names (ReadAhead), the rest of a Load of several pages, and, in mode Cached,
// the pages that follow pages read in order.

// aheadPagesMax bounds the pages of a batch. A disk processes about as many at once.
const aheadPagesMax = 64

// ReadAhead gives frames to those of ps that have none, as Fetch does, and reads them in one batch.
// It does nothing if the device is not a [BatchReader] or is read in place. It is advice. A page
// gets no frame if another goroutine is using its state word, if the policy or the bound excludes
// it, or if it cannot be read; the next reader of that page gets the error. ReadAhead reorders ps
// and leaves its contents undefined.
func (m *Map) ReadAhead(ps []PageID) {
	if m.batch == nil {
		return
	}
	slices.Sort(ps)
	for chunk := range slices.Chunk(slices.Compact(ps), m.aheadMost()) {
		m.readTogether(chunk)
	}
}

// aheadMost returns the largest batch, small enough that its pages do not evict one another.
func (m *Map) aheadMost() int {
	if limit := m.cache.limit; limit > 0 {
		return int(min(aheadPagesMax, max(limit/8, 1)))
	}
	return aheadPagesMax
}

// readTogether is ReadAhead for at most aheadPagesMax pages, each named once.
func (m *Map) readTogether(ps []PageID) {
	var words [aheadPagesMax]uint64
	var reqs []PageRead
	for _, p := range ps {
		w, ok := m.claim(p)
		if !ok {
			continue
		}
		if reqs == nil {
			reqs = make([]PageRead, 0, len(ps))
		}
		words[len(reqs)] = w
		reqs = append(reqs, PageRead{Page: p, Buf: m.frameAt(p)[:]})
	}
	if len(reqs) == 0 {
		return
	}
	c, n := &m.counters, uint64(len(reqs))
	c.admissions.Add(n)
	c.fills.Add(n)
	c.batches.Add(1)
	c.batchPages.Add(n)
	m.delay()
	m.races.Lock()
	_ = m.batch.ReadBatch(reqs) // each page has its error
	m.races.Unlock()
	for i := range reqs {
		m.land(&reqs[i], words[i])
	}
}

// claim makes a page busy that has no frame and is not in use, and counts the frame that it is
// about to get. It returns the page's earlier state word.
func (m *Map) claim(p PageID) (w uint64, ok bool) {
	const not = stateFrame | stateLeaving | stateBusy | stateChanging
	word := m.word(p)
	if w = atomic.LoadUint64(word); w&not != 0 || p >= PageID(m.size.Load()/PageBytes) {
		return 0, false
	}
	if m.cache.limit > 0 && !m.cache.policy.Admit(p, false) || !atomic.CompareAndSwapUint64(word, w, w|stateBusy) {
		return 0, false
	}
	if !m.enrol(p, m.mayFetch()) {
		atomic.AndUint64(word, ^uint64(stateBusy))
		return 0, false
	}
	return w, true
}

// land publishes a frame that was read. w is the page's state word from claim. If the page was
// written meanwhile, land reads it again.
func (m *Map) land(r *PageRead, w uint64) {
	if r.Err != nil {
		m.abandon(r.Page)
		return
	}
	word := m.word(r.Page)
	for {
		now := atomic.LoadUint64(word)
		if (now^w)&stateSeen != 0 {
			_, _ = m.fetchBusy(r.Page)
			return
		}
		if atomic.CompareAndSwapUint64(word, now, now&^stateBusy|stateFrame) {
			return
		}
	}
}

// loadTogether is loadPages for several pages. It reads them in batches: into frames as far as
// there is room, else straight into p.
func (m *Map) loadTogether(off Off, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), m.aheadMost()*PageBytes-int(off%PageBytes))
		m.readRun(off.Page(), (off + Off(n) - 1).Page())
		if err := m.loadPast(off, p[:n]); err != nil {
			return err
		}
		off, p = off+Off(n), p[n:]
	}
	return nil
}

// readRun is readTogether for the neighbouring pages first to last.
func (m *Map) readRun(first, last PageID) {
	var ps [aheadPagesMax]PageID
	n := 0
	for p := first; p <= last; p++ {
		ps[n] = p
		n++
	}
	m.readTogether(ps[:n])
}

// loadPast is loadPages for at most aheadPagesMax pages. It reads in one batch the pages that lie
// in p entirely and have no frame.
func (m *Map) loadPast(off Off, p []byte) error {
	var reqs [aheadPagesMax]PageRead
	var seen [aheadPagesMax]Version
	n := 0
	end := off + Off(len(p))
	for id := (off + PageBytes - 1).Page(); id.Off()+PageBytes <= end; id++ {
		if v, ok := m.ReadBegin(id); ok && uint64(v)&stateFrame == 0 {
			reqs[n], seen[n] = PageRead{Page: id, Buf: p[id.Off()-off:][:PageBytes]}, v
			n++
		}
	}
	if n > 0 {
		m.delay()
		m.races.RLock()
		_ = m.batch.ReadBatch(reqs[:n]) // each page has its error
		m.races.RUnlock()
		m.counters.batches.Add(1)
	}
	for i := range n {
		id := reqs[i].Page
		if reqs[i].Err != nil || !m.ReadValid(id, seen[i]) {
			continue // loadPages reads it again
		}
		m.miss()
		m.counters.directs.add()
		if err := m.loadPages(off, p[:id.Off()-off]); err != nil {
			return err
		}
		off, p = id.Off()+PageBytes, p[id.Off()-off+PageBytes:]
	}
	return m.loadPages(off, p)
}

// streams remembers places where pages are read in order. For each of the last few places it has
// the next page, and the size of the last batch.
type streams struct {
	at   [8]atomic.Uint64 // page << 8 | pages
	turn atomic.Uint32
}

// streamPagesMax bounds the batches of a stream. The first page of a possible stream is read alone.
// Each later batch is twice as large.
const streamPagesMax = 32

// follow is called for each page that is missed in mode Cached. If p is the next page of a stream,
// follow reads it with the pages after it.
func (m *Map) follow(p PageID) {
	s := &m.streams
	for i := range s.at {
		was := s.at[i].Load()
		if was == 0 || PageID(was>>8) != p {
			continue
		}
		n := min(2*PageID(was&0xff), streamPagesMax, PageID(m.aheadMost()))
		if s.at[i].CompareAndSwap(was, uint64(p+n)<<8|uint64(n)) {
			m.readRun(p, p+n-1)
		}
		return
	}
	s.at[s.turn.Add(1)%uint32(len(s.at))].Store(uint64(p+1)<<8 | 1)
}
