package nvmap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Policy decides which pages have frames where not all can: which misses are
// worth one, and which frames go. The map does the rest: it moves the bytes,
// counts, and keeps the bound.
//
// A policy is used by one map. The map calls Insert, Remove and Victims one at
// a time. Admit it calls from any goroutine at any time, without a lock.
//
// Readers do not call a policy: they set a bit in the page's state word, the
// first time that they come by since Victims last asked for it. A policy that
// wants to hear of each such first touch is a [Toucher] as well.
type Policy interface {
	// Name says what the policy is, in a word.
	Name() string

	// Admit says whether page p, which was missed, gets a frame; write says that
	// it is about to be changed. What gets none is read from the device and
	// written through to it. It need not be asked: an owner that must change a
	// page in DRAM makes a frame whatever the policy thinks.
	Admit(p PageID, write bool) bool

	// Insert says that p has a frame now. It had none, or Victims named it and it
	// had to stay: because it is dirty, or in use, or was wanted back.
	Insert(p PageID)

	// Remove says that p's frame went without being a victim.
	Remove(p PageID)

	// Victims appends up to n pages that are to lose their frames to dst, and
	// forgets them: those that stay are inserted again. touched reports whether
	// p was read since it was last asked about p, and begins anew. Fewer than n
	// are right only if no others have frames.
	Victims(dst []PageID, n int, touched func(p PageID) bool) []PageID
}

// A Toucher is a policy that hears of reads. Touch is called from any goroutine
// without a lock, at least for the first read of p since Victims asked.
type Toucher interface{ Touch(p PageID) }

// policies are those that ship, by name.
var policies = map[string]func() Policy{
	"clock":    func() Policy { return new(clockPolicy) },
	"2q":       func() Policy { return new(twoQueues) },
	"s3fifo":   func() Policy { return new(s3fifo) },
	"spitfire": func() Policy { return Spitfire(new(clockPolicy), spitfireRead, spitfireWrite) },
}

// DefaultPolicy is the policy where none is named.
// Of the reads that a skewed workload makes, s3fifo serves most from DRAM, also
// while a scan goes on beside it: see docs/nvmap.md.
const DefaultPolicy = "s3fifo"

// Policies returns the names that NewPolicy knows.
func Policies() []string {
	names := make([]string, 0, len(policies))
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewPolicy returns a policy by name: "clock", "2q", "s3fifo" or "spitfire"; ""
// is DefaultPolicy.
func NewPolicy(name string) (Policy, error) {
	if name == "" {
		name = DefaultPolicy
	}
	if make := policies[name]; make != nil {
		return make(), nil
	}
	return nil, fmt.Errorf("nvmap: no cache policy %q; there are %s", name, strings.Join(Policies(), ", "))
}

// clockPolicy gives every frame that was read since the hand came by a second
// round (CLOCK: Corbató, 1968).
type clockPolicy struct{ ring queue }

func (c *clockPolicy) Name() string            { return "clock" }
func (c *clockPolicy) Admit(PageID, bool) bool { return true }
func (c *clockPolicy) Insert(p PageID)         { c.ring.push(p) }
func (c *clockPolicy) Remove(p PageID)         { c.ring.remove(p) }

func (c *clockPolicy) Victims(dst []PageID, n int, touched func(PageID) bool) []PageID {
	// Readers may touch as fast as the hand moves: after one round it takes what
	// comes.
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

// twoQueues keeps frames in an inactive and an active list, as Linux does for
// its page cache: what is read again while it is inactive becomes active, and
// a scan, whose pages are read once, passes through the inactive list without
// disturbing the active one.
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

// balance moves pages from the active list until it holds two thirds at most;
// those that were read meanwhile have a second chance at its end.
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

// s3fifo keeps most frames in a main queue and tries new ones in a small queue
// first: what is not read again there leaves soon. Pages that left it and come
// back before they are forgotten go to the main queue at once. There a page gains
// a round for each round in which it was read, up to countMost, and loses one for
// each in which it was not (S3-FIFO: Yang et al., SOSP 2023, whose small queue has
// a tenth of the frames, and which counts reads one by one).
type s3fifo struct{ small, main, ghost queue }

const (
	// smallShare is the part of all frames that the small queue may hold: a
	// fiftieth. A tenth costs half of a percent of zipfian reads.
	smallShare = 50

	// countMost is how many rounds a page of the main queue may have to its
	// credit. More make the policy slower to follow, and serve no more reads.
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
	// Readers may touch as fast as pages go round: after one round of all it takes
	// what comes.
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

// noVictim says that a page was looked at and stays.
const noVictim = ^PageID(0)

// next looks at the page whose turn it is, and returns it if it goes.
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

// remember notes that p left the small queue. As many are remembered as there are
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

// Spitfire returns inner with another rule for admission: a page that is missed
// by a read gets a frame with probability read, one that is missed by a write
// with probability write (Spitfire: Zhou et al., SIGMOD 2021). Where reading in
// place is cheap, pages that are read now and then are not worth a copy: those
// that are read often get one soon all the same. Frames for writes save the
// medium: writes to the same page are absorbed.
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
