//go:build amd64 || arm64

package paging

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// errBeyond is the error of an access beyond the end.
var errBeyond = errors.New("beyond the end of the device")

// fill brings a busy page in, or poisons it. write says that the thread that waits for it is
// storing.
func (s *server) fill(p uint64, write bool, o *operation) {
	atomic.AddUint64(&s.h.Missing, 1)
	err := s.reserve(1)
	reserved := err == nil
	if reserved {
		buf := s.singles.get()
		m := [1]Move{{Page: p, Buf: buf}}
		s.read(m[:])
		s.step("fill.read")
		if err = m[0].Err; err == nil {
			err = s.install(p, buf, write)
		}
		s.singles.put(buf)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if reserved {
		s.coming--
	}
	if err != nil {
		if reserved {
			s.used--
			s.freed.Broadcast()
		}
		s.states[p] = isPoisoned
		delete(s.dirty, p)
		s.poison(p)
		f := s.class(err)
		s.tell(&message{Op: "lost", Off: int64(p * PageBytes), Err: &f})
	} else {
		s.enter(p, write)
	}
	s.end(o, p)
}

// read reads pages from the medium.
func (s *server) read(ms []Move) {
	atomic.AddUint64(&s.h.Reads, uint64(len(ms)))
	end := uint64(s.size() / PageBytes)
	for i := range ms {
		if ms[i].Page >= end { // only a program that goes beyond its slice asks for it
			fail(ms, errBeyond)
			return
		}
	}
	s.medium.Read(ms)
}

// install copies a busy page into the region. A page that is about to be stored to is dirty from
// the beginning. The thread that waits goes on.
func (s *server) install(p uint64, buf []byte, write bool) error {
	if write {
		s.mu.Lock()
		s.states[p] |= isDirty // P3
		s.dirty[p] = struct{}{}
		s.mu.Unlock()
	}
	s.step("fill.marked")
	n, err := s.copyIn(p, buf, !write)
	if n == 0 && err == nil {
		err = unix.EIO
	}
	s.step("fill.copied")
	return err
}

// copyIn copies buf into missing pages from p on. It returns the number of pages that are in.
func (s *server) copyIn(p uint64, buf []byte, protect bool) (pages int, err error) {
	for tries := 0; len(buf) > 0; {
		n, err := s.faults.Copy(s.at(p), buf, protect)
		p, buf, pages = p+uint64(n/PageBytes), buf[n:], pages+n/PageBytes
		switch {
		case err == nil:
		case errors.Is(err, unix.EAGAIN):
			time.Sleep(10 * time.Microsecond)
		case errors.Is(err, unix.ENOMEM) && tries < 200:
			tries++ // a limit beside ours; pages may be freed soon
			time.Sleep(10 * time.Millisecond)
		default:
			return pages, fmt.Errorf("placing page %d: %w", p, err)
		}
	}
	return pages, nil
}

// enter makes a page that was brought in known to the policy. The caller holds mu.
func (s *server) enter(p uint64, write bool) {
	st := isPresent | s.states[p]&isDirty
	if !s.policy.Admit(p, write) {
		st |= isTransient
		s.leaving = append(s.leaving, p)
	} else {
		s.policy.Insert(p)
	}
	s.states[p] = st
	if !s.conf.NoSample {
		s.recent = append(s.recent, p)
	}
}

// reserve waits for memory for n pages. P8. The caller holds no page that the evictor could need:
// one that is not present.
func (s *server) reserve(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := false
	for s.used+uint64(n) > s.limit {
		if s.stuck != nil {
			return s.stuck
		}
		if !waits {
			waits = true
			atomic.AddUint64(&s.h.Waits, 1)
		}
		s.waiting += uint64(n)
		s.wanted.Signal()
		s.freed.Wait()
		s.waiting -= uint64(n)
	}
	s.used += uint64(n)
	s.coming += uint64(n)
	if s.used+s.low() > s.limit {
		s.wanted.Signal()
	}
	s.count()
	return nil
}

// stream is a sequence of faults on neighbouring pages.
type stream struct {
	next    uint64 // the page that follows what was read
	trigger uint64 // the page whose use starts the next window
	window  int    // pages read ahead the last time
}

// aheadMin is the first window.
const aheadMin = 8

// aheadMax returns the largest window.
func (s *server) aheadMax() int { return int(min(chunkPages, max(s.limit/8, 1))) }

// readAhead notes the use of p, and returns the reading that should follow it, or nil. The caller
// holds mu.
func (s *server) readAhead(p uint64) func() {
	advice := s.hint(p)
	if advice == AdviseRandom {
		return nil
	}
	for i := range s.streams {
		t := &s.streams[i]
		if t.window == 0 && t.next != p || t.window > 0 && t.next != p && t.trigger != p || t.next == 0 {
			continue
		}
		return s.extend(t, max(t.next, p+1))
	}
	t := &s.streams[s.streamAt]
	s.streamAt = (s.streamAt + 1) % len(s.streams)
	*t = stream{next: p + 1}
	if advice == AdviseSequential {
		t.window = s.aheadMax()
		return s.extend(t, p+1)
	}
	return nil
}

// extend moves a stream on by a window.
func (s *server) extend(t *stream, from uint64) func() {
	t.window = min(max(2*t.window, aheadMin), s.aheadMax())
	end := uint64(s.size() / PageBytes)
	n := int(min(uint64(t.window), end-min(from, end)))
	t.next = from + uint64(n)
	t.trigger = from + uint64(n/2)
	if n == 0 || s.ahead+uint64(n) > s.limit/4 { // readings that are late would leave no memory for faults
		*t = stream{}
		return nil
	}
	s.ahead += uint64(n)
	trigger := t.trigger
	return func() {
		s.fetch(from, n, trigger)
		s.mu.Lock()
		s.ahead -= uint64(n)
		s.mu.Unlock()
	}
}

// hint returns the advice for p. The caller holds mu.
func (s *server) hint(p uint64) int {
	at := int64(p * PageBytes)
	for i := len(s.hints) - 1; i >= 0; i-- {
		if h := &s.hints[i]; at >= h.Off && at-h.Off < h.N {
			return h.Advice
		}
	}
	return AdviseNormal
}

const noTrigger = ^uint64(0)

// fetch brings the missing pages of [from, from+n) in, in one batch of at most aheadMax pages. The
// trigger is not mapped, so that its first use is an event. A page that cannot be read stays
// missing.
func (s *server) fetch(from uint64, n int, trigger uint64) {
	if s.reserve(n) != nil {
		return
	}
	s.mu.Lock()
	ps := make([]uint64, 0, n)
	for p := from; p < from+uint64(n); p++ {
		if s.busy[p] == nil && s.states[p]&(isPresent|isPoisoned) == 0 {
			ps = append(ps, p)
		}
	}
	s.used -= uint64(n - len(ps))
	s.coming -= uint64(n - len(ps))
	s.freed.Broadcast()
	o := s.begin(ps...)
	s.mu.Unlock()

	in := make([]bool, len(ps))
	if len(ps) > 0 {
		buf := s.chunks.get()
		ms := make([]Move, len(ps))
		for i, p := range ps {
			ms[i] = Move{Page: p, Buf: buf[i*PageBytes:][:PageBytes:PageBytes]}
		}
		s.read(ms)
		atomic.AddUint64(&s.h.Ahead, uint64(len(ps)))
		s.step("ahead.read")
		for i := 0; i < len(ms); {
			i += s.place(ms[i:], in[i:], buf[i*PageBytes:], trigger)
		}
		s.chunks.put(buf)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming -= uint64(len(ps))
	for i, p := range ps {
		if !in[i] {
			s.used--
			continue
		}
		s.enter(p, false)
		if p == trigger {
			s.states[p] |= isAhead | isUnmapped
		}
	}
	s.end(o, ps...)
	s.freed.Broadcast()
}

// place copies a run of pages in, beginning with the first of ms. It returns its length.
func (s *server) place(ms []Move, in []bool, buf []byte, trigger uint64) int {
	if ms[0].Err != nil {
		return 1
	}
	if ms[0].Page == trigger {
		n, err := unix.Pwrite(s.region, ms[0].Buf, int64(ms[0].Page*PageBytes))
		in[0] = err == nil && n == PageBytes
		return 1
	}
	n := 1
	for n < len(ms) && ms[n].Err == nil && ms[n].Page == ms[0].Page+uint64(n) && ms[n].Page != trigger {
		n++
	}
	done, _ := s.copyIn(ms[0].Page, buf[:n*PageBytes], true)
	for i := range done {
		in[i] = true
	}
	return max(done, 1)
}
