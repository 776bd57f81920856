package nvmap

import "fmt"

// LineState is the state of a 64-byte line of a Sim on its way to the medium.
//
//	          Store              Flush              Fence
//	Clean ---------------> Dirty ---------> Flushed -------> Clean
//
// The newest bytes of a line decide its state. A line that is stored into between Flush and Fence
// is Dirty again, and the fence makes only the flushed content durable.
type LineState int

// The content of a Clean line is durable. Of a Dirty or Flushed line a crash leaves any version
// since the last fence that covered it.
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

// Store makes p visible at off without flushing it. A fence does not cover it until Flush has been
// called, and a crash may keep it all the same. It is for structures that store and flush
// separately. Store counts as a write.
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

// Flush starts writing back the lines of [off, off+n). The next Fence makes their present content
// durable.
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

// Lints counts operations of a device that were not needed. None of them is an error; all of them
// cost time on a medium.
type Lints struct {
	Stores       int // lines stored into; one call may store into several
	Unchanged    int // of them: the bytes were the same as before
	Flushes      int // lines flushed
	FlushedClean int // of them: nothing was stored since the last flush
	FlushedAgain int // of them: flushed before under the same fence
	Fences       int // fences that succeeded
	IdleFences   int // of them: no line was flushed
	Left         int // lines that were dirty at a fence, which did not cover them
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

// Add returns the sums of the counters.
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
