package nvmap

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Access describes a call on a Sim to a rule.
type Access struct {
	Op    string // "read", "write", "fence", "grow", "discard" or "allocate"
	Off   Off    // start of the range; 0 for a fence and for growth
	Bytes int64  // length of the range; for growth the size asked for
}

// FailIf makes the Sim ask rule about every call from now on. nil: no rule. If rule returns an
// error, the call fails: a write writes half of its bytes as with FailWrite, a fence leaves its
// lines as after FailFence, and any other call does nothing. Growth and allocation return an error
// that wraps the rule's, so that it can be ErrFull. All others return a FaultError that wraps it. A
// rule may be called from several goroutines and must not call the device. It does not apply to
// images.
func (s *Sim) FailIf(rule func(Access) error) {
	if rule == nil {
		s.rule.Store(nil)
		return
	}
	s.rule.Store(&rule)
}

// refused returns the rule's error for a call.
func (s *Sim) refused(op string, off Off, n int64) error {
	if rule := s.rule.Load(); rule != nil {
		return (*rule)(Access{op, off, n})
	}
	return nil
}

// errPoisoned is the cause in the FaultError of a lost line.
var errPoisoned = errors.New("the line is lost: the medium cannot read it")

// LoseLines makes the 64-byte lines around [off, off+n) unreadable, as memory is after an
// uncorrectable error (poison). A Read of any of their bytes returns a FaultError that names the
// first. A write that covers a whole line repairs it. The mapping, if it is not hidden, and images
// still show the lines.
func (s *Sim) LoseLines(off Off, n int64) error {
	if err := s.check("lose", off, n); err != nil {
		return err
	}
	s.lost.add(off, n)
	return nil
}

// LostLines returns the number of unreadable lines.
func (s *Sim) LostLines() int { return int(s.lost.n.Load()) }

// HideMapping makes Mapping return nil, so that everything is read through Read. Call it before the
// first use of the mapping. It applies to images too.
func (s *Sim) HideMapping() { s.hidden = true }

// lostLines is a set of lines. It costs nothing while it is empty.
type lostLines struct {
	n     atomic.Int64
	mu    sync.Mutex
	lines map[uint64]struct{}
}

func (l *lostLines) add(off Off, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = make(map[uint64]struct{})
	}
	from, to := outward(off, n, lineBytes)
	for ; from < to; from += lineBytes {
		l.lines[uint64(from/lineBytes)] = struct{}{}
	}
	l.n.Store(int64(len(l.lines)))
}

func (l *lostLines) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.lines)
	l.n.Store(0)
}

// heal removes the lines that lie in [off, off+n) entirely from the set.
func (l *lostLines) heal(off Off, n int64) {
	if l.n.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := inward(off, n, lineBytes)
	for ; from < to; from += lineBytes {
		delete(l.lines, uint64(from/lineBytes))
	}
	l.n.Store(int64(len(l.lines)))
}

// check returns a FaultError if [off, off+n) touches a line in the set.
func (l *lostLines) check(off Off, n int64) error {
	if l.n.Load() == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := outward(off, n, lineBytes)
	for ; from < to; from += lineBytes {
		if _, ok := l.lines[uint64(from/lineBytes)]; ok {
			return &FaultError{Off: max(off, Off(from)), Op: "read", Err: errPoisoned}
		}
	}
	return nil
}

// readable returns an error if [off, off+n) cannot be read.
func (s *Sim) readable(off Off, n int64) error {
	if err := s.check("read", off, n); err != nil {
		return err
	}
	if err := s.refused("read", off, n); err != nil {
		return &FaultError{Off: off, Op: "read", Err: err}
	}
	if n == 0 {
		return nil
	}
	return s.lost.check(off, n)
}

// ReadBatch reads pages in one batch, in the time of one read and all their bytes.
func (s *Sim) ReadBatch(reqs []PageRead) error {
	good := make([]PageRead, 0, len(reqs))
	var at []int
	for i := range reqs {
		r := &reqs[i]
		if r.Err = r.check(s.Size()); r.Err == nil {
			r.Err = s.readable(r.Page.Off(), PageBytes)
		}
		if r.Err == nil {
			good, at = append(good, *r), append(at, i)
		}
	}
	_ = ReadPages(s.base, good) // each page has its error
	s.pace.Load().read(int64(len(good)) * PageBytes)
	for i, r := range good {
		reqs[at[i]].Err = r.Err
	}
	for i := range reqs {
		if reqs[i].Err != nil {
			return reqs[i].Err
		}
	}
	return nil
}

// notGrown returns the error of growth or allocation that a rule refused.
func notGrown(op string, err error) error {
	return fmt.Errorf("nvmap: simulated device: %s: %w", op, err)
}
