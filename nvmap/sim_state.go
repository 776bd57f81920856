package nvmap

import "fmt"

// LineState is where a 64-byte line of a Sim stands on its way to the medium.
//
//	          Store              Flush              Fence
//	Clean ---------------> Dirty ---------> Flushed -------> Clean
//
// A line is as dirty as its newest bytes are: one that is stored into between
// Flush and Fence is Dirty again, and the fence makes what was flushed durable
// and no more.
type LineState int

// The states. What a Clean line shows is durable; of the others a crash leaves
// any version since the last fence that covered them.
const (
	Clean LineState = iota
	Dirty
	Flushed
)

func (st LineState) String() string {
	switch st {
	case Clean:
		return "clean"
	case Dirty:
		return "dirty"
	case Flushed:
		return "flushed"
	}
	return fmt.Sprintf("LineState(%d)", int(st))
}

// LineState returns the state of the line that holds the byte at off.
func (s *Sim) LineState(off Off) LineState {
	s.mu.Lock()
	defer s.mu.Unlock()
	pl := s.pending.get(uint64(off) / lineBytes)
	switch {
	case pl == nil:
		return Clean
	case pl.flushed < len(pl.versions):
		return Dirty
	}
	return Flushed
}

// Store makes p visible at off without flushing it: a fence does not cover it
// until Flush has been called, and a crash may keep it all the same. It is for
// structures that store and flush by themselves; Write does both. It counts as
// a write.
func (s *Sim) Store(off Off, p []byte) error {
	if f := s.onWrite.Load(); f != nil {
		(*f)(off, len(p))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes.Add(1)
	if err := s.check("store", off, int64(len(p))); err != nil {
		return err
	}
	ignore, _ := s.plan.nextWrite()
	return s.store(off, p, ignore)
}

// Flush sends the lines of [off, off+n) on their way: the next Fence makes what
// they show now durable.
func (s *Sim) Flush(off Off, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("flush", off, n); err != nil {
		return err
	}
	s.flush(off, n)
	return nil
}

func (s *Sim) flush(off Off, n int64) {
	if n == 0 {
		return
	}
	for l := uint64(off) / lineBytes; l <= (uint64(off)+uint64(n)-1)/lineBytes; l++ {
		s.lints.Flushes++
		pl := s.pending.get(l)
		switch {
		case pl == nil:
			s.lints.FlushedClean++
			continue
		case pl.flushed == len(pl.versions):
			s.lints.FlushedClean++
		case pl.flushed > 0:
			s.lints.FlushedAgain++
		}
		pl.flushed = len(pl.versions)
	}
}

// Lints counts what a device was asked to do and did not need to. None of it is
// an error; all of it costs time on a medium.
type Lints struct {
	Stores       int // lines stored into; one call may store into many
	Unchanged    int // of them: with the bytes that were there
	Flushes      int // lines flushed
	FlushedClean int // of them: nothing had been stored into since the last flush
	FlushedAgain int // of them: flushed before under the same fence
	Fences       int // fences that succeeded
	IdleFences   int // of them: no line was on its way
	Left         int // lines that were dirty at a fence, and not covered by it
}

// Lints returns the counters.
func (s *Sim) Lints() Lints {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lints
}

func (l *Lints) stored(same bool) {
	l.Stores++
	if same {
		l.Unchanged++
	}
}

func (l *Lints) fenced(p *pendingLines) {
	l.Fences++
	covered := 0
	for _, pl := range p.order {
		if pl.flushed > 0 {
			covered++
		}
		if pl.flushed < len(pl.versions) {
			l.Left++
		}
	}
	if covered == 0 {
		l.IdleFences++
	}
}

// Add sums counters.
func (l Lints) Add(o Lints) Lints {
	l.Stores += o.Stores
	l.Unchanged += o.Unchanged
	l.Flushes += o.Flushes
	l.FlushedClean += o.FlushedClean
	l.FlushedAgain += o.FlushedAgain
	l.Fences += o.Fences
	l.IdleFences += o.IdleFences
	l.Left += o.Left
	return l
}
