package nvmap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Policy decides which pages have frames if not all can. It chooses the misses that get a frame,
// and the frames to evict. The map moves the bytes, counts, and keeps the bound.
//
// One map uses a policy. The map calls Insert, Remove and Victims one at a time. It calls Admit
// from any goroutine at any time, without a lock.
//
// Readers do not call a policy. They set a bit in the page's state word at the first read after
// Victims last cleared it. A policy that needs each such first read is also a [Toucher].
type Policy interface {
	// Name returns a short name of the policy.
	Name() string

	// Admit reports whether page p, which was missed, gets a frame. write says that the page is
	// about to be changed. A page without a frame is read from the device and written through to
	// it. The map does not ask Admit for Frame and FreshFrame: an owner that must change a page in
	// DRAM always gets a frame.
	Admit(p PageID, write bool) bool

	// Insert says that p has a frame now. Either p had none before, or Victims named it and the
	// frame stayed because it was dirty, in use, or wanted back.
	Insert(p PageID)

	// Remove says that p lost its frame without being a victim.
	Remove(p PageID)

	// Victims appends to dst up to n pages that are to lose their frames, and forgets them. If one
	// keeps its frame, the map inserts it again. touched reports whether p was read since the last
	// call of touched for p, and clears the mark. Victims may return fewer than n pages only if no
	// others have frames.
	Victims(dst []PageID, n int, touched func(p PageID) bool) []PageID
}

// A Toucher is a policy that is told of reads. The map calls Touch from any goroutine without a
// lock, at least for the first read of p after Victims cleared its mark.
type Toucher interface{ Touch(p PageID) }

// policies maps the names of policies to their constructors. registered.mu guards it.
var policies = map[string]func() Policy{
	"clock":    func() Policy { return new(clockPolicy) },
	"2q":       func() Policy { return new(twoQueues) },
	"s3fifo":   func() Policy { return new(s3fifo) },
	"spitfire": func() Policy { return Spitfire(new(clockPolicy), spitfireRead, spitfireWrite) },
}

// DefaultPolicy is the policy of a map that names none. Of the reads of a skewed workload, s3fifo
// serves the most from DRAM, also during a scan: see docs/nvmap.md.
const DefaultPolicy = "s3fifo"

// Policies returns the names that NewPolicy knows.
func Policies() []string {
	registered.mu.RLock()
	defer registered.mu.RUnlock()
	names := make([]string, 0, len(policies))
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewPolicy returns a new policy by name: "clock", "2q", "s3fifo" or "spitfire". "" is
// DefaultPolicy.
func NewPolicy(name string) (Policy, error) {
	if name == "" {
		name = DefaultPolicy
	}
	registered.mu.RLock()
	make := policies[name]
	registered.mu.RUnlock()
	if make != nil {
		return make(), nil
	}
	return nil, fmt.Errorf("nvmap: no cache policy %q; there are %s", name, strings.Join(Policies(), ", "))
}

// clockPolicy gives each frame that was read since the hand last passed a second round (CLOCK:
// Corbató, 1968).
type clockPolicy struct{ ring queue }

func (c *clockPolicy) Name() string            { return "clock" }
func (c *clockPolicy) Admit(PageID, bool) bool { return true }
func (c *clockPolicy) Insert(p PageID)         { c.ring.push(p) }
func (c *clockPolicy) Remove(p PageID)         { c.ring.remove(p) }

func (c *clockPolicy) Victims(dst []PageID, n int, touched func(PageID) bool) []PageID {
	// Readers may touch pages as fast as the hand moves. After one round it takes every page that
	// it meets.
	for spared := c.ring.len(); n > 0; {
		p, ok := c.ring.pop()
		if !ok {
			break
		}
		if spared > 0 && touched(p) {
			spared--
			c.ring.push(p)
			continue
		}
		dst = append(dst, p)
		n--
	}
	return dst
}

// twoQueues keeps frames in an inactive and an active list, as Linux does for its page cache. A
// page that is read again while it is inactive becomes active. A scan reads each page once, so its
// pages pass through the inactive list and leave the active one alone.
type twoQueues struct{ inactive, active queue }

func (q *twoQueues) Name() string            { return "2q" }
func (q *twoQueues) Admit(PageID, bool) bool { return true }
func (q *twoQueues) Insert(p PageID) {
	if !q.active.has(p) {
		q.inactive.push(p)
	}
}

func (q *twoQueues) Remove(p PageID) {
	if !q.inactive.remove(p) {
		q.active.remove(p)
	}
}

func (q *twoQueues) Victims(dst []PageID, n int, touched func(PageID) bool) []PageID {
	for spared := q.inactive.len() + q.active.len(); n > 0; {
		q.balance(&spared, touched)
		p, ok := q.inactive.pop()
		if !ok {
			break
		}
		if spared > 0 && touched(p) {
			spared--
			q.active.push(p)
			continue
		}
		dst = append(dst, p)
		n--
	}
	return dst
}

// balance moves pages from the active list to the inactive one until the active list holds at most
// two thirds. Pages that were read meanwhile stay active, at the end of the list.
func (q *twoQueues) balance(spared *int, touched func(PageID) bool) {
	for q.active.len() > 2*q.inactive.len() {
		p, _ := q.active.pop()
		if *spared > 0 && touched(p) {
			*spared--
			q.active.push(p)
		} else {
			q.inactive.push(p)
		}
	}
}

// s3fifo keeps most frames in a main queue and tries new ones in a small queue first. A page that
// is not read again there leaves soon. If such a page returns before it is forgotten, it enters the
// main queue at once. In the main queue a page gains a round for each round in which it was read,
// up to countMost, and loses one for each in which it was not (S3-FIFO: Yang et al., SOSP 2023;
// there the small queue has a tenth of the frames, and reads are counted one by one).
type s3fifo struct{ small, main, ghost queue }

const (
	// smallShare is the part of all frames that the small queue may hold: a fiftieth. A tenth loses
	// half a percent of the hits of zipfian reads.
	smallShare = 50

	// countMost bounds the rounds that a page of the main queue may collect. A larger bound makes
	// the policy slower to adapt and serves no more reads.
	countMost = 3
)

func (s *s3fifo) Name() string            { return "s3fifo" }
func (s *s3fifo) Admit(PageID, bool) bool { return true }

func (s *s3fifo) Insert(p PageID) {
	switch {
	case s.small.has(p) || s.main.has(p):
	case s.ghost.remove(p):
		s.main.push(p)
	default:
		s.small.push(p)
	}
}

func (s *s3fifo) Remove(p PageID) {
	if !s.small.remove(p) {
		s.main.remove(p)
	}
}

func (s *s3fifo) Victims(dst []PageID, n int, touched func(PageID) bool) []PageID {
	// Readers may touch pages as fast as the queues turn. After one round of all pages the policy
	// takes every page that it meets.
	for spared := s.frames(); n > 0; {
		p, ok := s.next(&spared, touched)
		if !ok {
			break
		}
		if p != noVictim {
			dst = append(dst, p)
			n--
		}
	}
	return dst
}

// noVictim says that next examined a page, which keeps its frame.
const noVictim = ^PageID(0)

// next examines the next page in turn, and returns it if it loses its frame.
func (s *s3fifo) next(spared *int, touched func(PageID) bool) (victim PageID, ok bool) {
	if s.small.len() > 0 && (s.main.len() == 0 || s.small.len()*smallShare >= s.frames()) {
		p, _ := s.small.pop()
		if *spared > 0 && touched(p) {
			*spared--
			s.main.push(p)
			return noVictim, true
		}
		s.remember(p)
		return p, true
	}
	p, count, ok := s.main.popCounted()
	switch {
	case !ok || *spared == 0:
		return p, ok
	case touched(p):
		count = min(count+1, countMost)
	case count == 0:
		return p, true
	default:
		count--
	}
	*spared--
	s.main.pushCounted(p, count)
	return noVictim, true
}

func (s *s3fifo) frames() int { return s.small.len() + s.main.len() }

// remember notes that p left the small queue. The ghost queue remembers as many pages as there are
// frames.
func (s *s3fifo) remember(p PageID) {
	s.ghost.push(p)
	for s.ghost.len() > s.frames() {
		s.ghost.pop()
	}
}

const (
	spitfireRead  = 0.25
	spitfireWrite = 1
)

// Spitfire returns a policy that differs from inner in its admission: a page that a read misses
// gets a frame with probability read, a page that a write misses with probability write (Spitfire:
// Zhou et al., SIGMOD 2021). If reading in place is cheap, a page that is read now and then is not
// worth a copy, and a page that is read often gets one soon all the same. Frames for writes save
// the medium, because they absorb further writes to the page.
func Spitfire(inner Policy, read, write float64) Policy {
	s := spitfire{inner, read, write}
	if t, ok := inner.(Toucher); ok {
		return struct {
			spitfire
			Toucher
		}{s, t}
	}
	return s
}

type spitfire struct {
	Policy
	read, write float64
}

func (s spitfire) Name() string { return "spitfire(" + s.Policy.Name() + ")" }

func (s spitfire) Admit(p PageID, write bool) bool {
	chance := s.read
	if write {
		chance = s.write
	}
	return chance >= 1 || rand.Float64() < chance && s.Policy.Admit(p, write)
}
