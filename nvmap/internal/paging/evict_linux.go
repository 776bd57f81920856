//go:build amd64 || arm64

package paging

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// low is the number of pages that the evictor keeps free, so that faults seldom wait.
func (s *server) low() uint64 { return min(max(s.limit/32, 1), chunkPages) }

// batch is the number of pages that leave together.
func (s *server) batch() int { return int(min(max(s.limit/16, 1), chunkPages)) }

// stuckPause is how long the evictor waits after it could evict nothing.
const stuckPause = 5 * time.Millisecond

// evictor keeps memory free.
func (s *server) evictor() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.closed || s.used+s.low()+s.waiting <= s.limit {
			s.wanted.Wait()
		}
		s.evicting = true
		freed, err := s.evict(s.batch())
		s.evicting = false
		s.stuck = nil
		if freed == 0 && s.coming == 0 {
			s.stuck = err // nil: all pages are in use, and will not be for long
		}
		s.freed.Broadcast()
		if freed == 0 {
			s.mu.Unlock()
			time.Sleep(stuckPause)
			s.mu.Lock()
		}
	}
}

// evict evicts up to n pages. The caller holds mu, which is released meanwhile.
func (s *server) evict(n int) (freed int, err error) {
	ps := s.victims(n)
	o := s.begin(ps...)
	s.mu.Unlock()
	freed, err = s.expel(ps)
	s.mu.Lock()
	for _, p := range ps {
		if s.states[p]&isPresent != 0 && s.states[p]&isTransient == 0 {
			s.policy.Insert(p)
		} else if s.states[p]&isPresent != 0 {
			s.leaving = append(s.leaving, p)
		}
	}
	s.end(o, ps...)
	if !s.conf.NoSample {
		s.sample(n)
	}
	return freed, err
}

// victims chooses up to n pages, in ascending order. The caller holds mu.
func (s *server) victims(n int) []uint64 {
	ps := make([]uint64, 0, n)
	for len(s.leaving) > 0 && len(ps) < n {
		p := s.leaving[0]
		s.leaving = s.leaving[1:]
		if s.states[p]&(isPresent|isTransient) != isPresent|isTransient {
			continue
		}
		if s.busy[p] != nil {
			s.admit(p)
			continue
		}
		if s.states[p]&isTouched != 0 && s.policy.Admit(p, false) { // used again: another trial
			s.admit(p)
			continue
		}
		ps = append(ps, p)
	}
	touched := func(p uint64) bool {
		was := s.states[p]&isTouched != 0
		s.states[p] &^= isTouched
		return was
	}
	if len(ps) < n {
		var chosen, held []uint64
		for _, p := range s.policy.Victims(nil, n-len(ps), touched) {
			if s.busy[p] != nil {
				held = append(held, p)
			} else if s.states[p]&isPresent != 0 {
				chosen = append(chosen, p)
			}
		}
		for _, p := range held {
			s.policy.Insert(p)
		}
		ps = append(ps, chosen...)
	}
	slices.Sort(ps)
	return slices.Compact(ps)
}

// expel takes busy pages, in ascending order, out of the region. Dirty ones are written back first;
// those that cannot be written stay. The caller does not hold mu.
func (s *server) expel(ps []uint64) (freed int, err error) {
	var dirty []uint64
	s.mu.Lock()
	for _, p := range ps {
		if s.states[p]&isDirty != 0 {
			dirty = append(dirty, p)
		}
	}
	s.mu.Unlock()
	err = s.writeBack(dirty)
	s.mu.Lock()
	gone := make([]uint64, 0, len(ps))
	for _, p := range ps {
		if s.states[p]&isDirty == 0 {
			gone = append(gone, p)
		}
	}
	s.mu.Unlock()
	punched := gone[:0]
	for run := range runs(gone) {
		from, n := int64(run[0]*PageBytes), int64(len(run)*PageBytes)
		e := retry(func() error {
			return unix.Fallocate(s.region, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, n)
		})
		s.step("evict.punched")
		if e != nil {
			err = fmt.Errorf("giving back memory: %w", e)
			continue
		}
		punched = append(punched, run...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range punched {
		s.states[p] = 0
	}
	s.used -= uint64(len(punched))
	atomic.AddUint64(&s.h.Evictions, uint64(len(punched)))
	s.count()
	return len(punched), err
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// runs yields the runs of neighbours in ps, which ascend.
func runs(ps []uint64) func(yield func([]uint64) bool) {
	return func(yield func([]uint64) bool) {
		for len(ps) > 0 {
			n := 1
			for n < len(ps) && ps[n] == ps[0]+uint64(n) {
				n++
			}
			if !yield(ps[:n]) {
				return
			}
			ps = ps[n:]
		}
	}
}

// writeBack writes busy dirty pages, in ascending order, and clears the marks of those that outlive
// this process now. P4. The caller does not hold mu.
func (s *server) writeBack(ps []uint64) error {
	var first error
	for batch := range slices.Chunk(ps, chunkPages) {
		if err := s.writeBatch(batch); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (s *server) writeBatch(ps []uint64) error {
	buf := s.chunks.get()
	defer s.chunks.put(buf)
	ms := make([]Move, 0, len(ps))
	var first error
	for run := range runs(ps) {
		n := len(run) * PageBytes
		to := buf[len(ms)*PageBytes:][:n]
		if err := s.take(run, to); err != nil {
			first = err
			continue
		}
		for i, p := range run {
			ms = append(ms, Move{Page: p, Buf: to[i*PageBytes:][:PageBytes:PageBytes]})
		}
	}
	if len(ms) == 0 {
		return first
	}
	s.step("write.protected")
	s.medium.Write(ms)
	s.step("write.written")
	settled := s.medium.Settle()
	s.step("write.settled")
	s.mu.Lock()
	done := uint64(0)
	for i := range ms {
		if ms[i].Err == nil {
			ms[i].Err = settled
		}
		if ms[i].Err != nil {
			first = ms[i].Err
			continue
		}
		s.states[ms[i].Page] &^= isDirty
		delete(s.dirty, ms[i].Page)
		done++
	}
	s.count()
	s.mu.Unlock()
	atomic.AddUint64(&s.h.WriteBacks, done)
	s.step("write.cleared")
	return first
}

// take protects a run of pages and copies their bytes.
func (s *server) take(run []uint64, to []byte) error {
	err := s.again(func() error { return s.faults.Protect(s.at(run[0]), uint64(len(to))) })
	if err != nil && !errors.Is(err, unix.ESRCH) { // the program is gone: nothing stores any more
		return fmt.Errorf("protecting pages: %w", err)
	}
	for done := 0; done < len(to); {
		n, err := unix.Pread(s.region, to[done:], int64(run[0]*PageBytes)+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("reading the region: %w", errors.Join(err, unix.EIO))
		}
		done += n
	}
	return nil
}

// flush writes back every page that was dirty when it began, and fences.
func (s *server) flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	atomic.AddUint64(&s.h.Syncs, 1)
	s.mu.Lock()
	ps := make([]uint64, 0, len(s.dirty))
	for p := range s.dirty {
		ps = append(ps, p)
	}
	s.mu.Unlock()
	slices.Sort(ps)
	var first error
	for batch := range slices.Chunk(ps, chunkPages) {
		if err := s.flushBatch(batch); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	if atomic.LoadUint64(&s.h.failed) != 0 {
		return errFailed
	}
	s.step("flush.written")
	if err := s.medium.Fence(); err != nil {
		atomic.StoreUint64(&s.h.failed, 1) // P12
		return err
	}
	s.step("flush.fenced")
	return nil
}

var errFailed = errors.New("an earlier fence failed: it is unknown which bytes are durable; close the map and read them")

// flushBatch writes those of ps that are still dirty.
func (s *server) flushBatch(ps []uint64) error {
	var first error
	for len(ps) > 0 {
		var mine, others []uint64
		var wait *operation
		s.mu.Lock()
		for _, p := range ps {
			switch o := s.busy[p]; {
			case o != nil:
				others, wait = append(others, p), o
			case s.states[p]&isDirty != 0:
				mine = append(mine, p)
			}
		}
		o := s.begin(mine...)
		s.mu.Unlock()
		if err := s.writeBack(mine); err != nil && first == nil {
			first = err
		}
		s.mu.Lock()
		s.end(o, mine...)
		s.mu.Unlock()
		if wait != nil {
			<-wait.done // P5: nothing is held here
		}
		ps = others
	}
	return first
}

// sampleAge is the part of the bound that is brought in between a page's entry and its first trial.
const sampleAge = 64

// sample has pages unmapped, so that their next use is an event: those that came in a while ago,
// and the next n in a round over all. The caller holds mu.
func (s *server) sample(n int) {
	var ps []uint64
	take := func(p uint64) {
		if s.busy[p] == nil && s.states[p]&(isPresent|isUnmapped) == isPresent {
			s.states[p] |= isUnmapped
			ps = append(ps, p)
		}
	}
	for uint64(len(s.recent)) > s.limit/sampleAge {
		take(s.recent[0])
		s.recent = s.recent[1:]
	}
	end := uint64(s.size() / PageBytes)
	for looked, found := 0, len(ps)+n; looked < 64*n && len(ps) < found; looked++ {
		if s.hand >= end {
			s.hand = 0
		}
		if s.states[s.hand] != 0 {
			take(s.hand)
		}
		s.hand++
	}
	if len(ps) == 0 {
		return
	}
	slices.Sort(ps)
	atomic.AddUint64(&s.h.Sampled, uint64(len(ps)))
	m := message{Op: "unmap"}
	for run := range runs(ps) {
		m.Ranges = append(m.Ranges, [2]uint64{run[0] * PageBytes, (run[len(run)-1] + 1) * PageBytes})
		if len(m.Ranges) == rangesMax {
			s.tell(&m)
			m.Ranges = m.Ranges[:0]
		}
	}
	if len(m.Ranges) > 0 {
		s.tell(&m)
	}
}

// rangesMax bounds the ranges of a message.
const rangesMax = 512

// tell sends news that may be lost. It does not use conn, whose lock an answer may hold that waits
// for the program. P9.
func (s *server) tell(m *message) {
	text, err := json.Marshal(m)
	if err != nil {
		return
	}
	_ = unix.Sendto(s.news, text, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
}
