//go:build amd64 || arm64

package paging

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// control serves the calls of the program until it closes the map or is gone. It returns the exit
// code.
func (s *server) control() int {
	buf := make([]byte, messageBytesMax)
	for {
		n, err := s.conn.Read(buf)
		if err != nil || n == 0 {
			return s.leave()
		}
		m, err := decode(buf[:n])
		if err != nil {
			fmt.Fprintf(os.Stderr, "nvmap: pager: a call is not understood: %v\n", err)
			continue
		}
		if m.Op == "close" {
			err := s.finish()
			s.answer(m, err)
			return exitDone
		}
		if m.Op == "advise" && m.Advice != AdviseWillNeed && m.Advice != AdviseDontNeed {
			s.advise(m) // in order
			if m.Seq != 0 {
				s.answer(m, nil)
			}
			continue
		}
		go func() { s.answer(m, s.call(m)) }()
	}
}

func (s *server) answer(m message, err error) {
	a := message{Op: "done", Seq: m.Seq}
	if err != nil {
		f := s.class(err)
		a.Err = &f
	}
	_ = send(s.conn, &a)
}

// call makes one control call.
func (s *server) call(m message) error {
	switch m.Op {
	case "sync":
		return s.flush()
	case "grow":
		if err := s.medium.Grow(m.N); err != nil {
			return err
		}
		s.step("grow.grown")
		s.mu.Lock()
		defer s.mu.Unlock()
		if size := s.medium.Size() &^ (PageBytes - 1); size > s.size() {
			atomic.StoreInt64(&s.h.size, min(size, s.conf.MaxBytes))
		}
		return nil
	case "fetch":
		s.fetchAll(m.Off, m.N)
		return nil
	case "forgive":
		s.forgive(m.Off, m.N)
		return nil
	case "advise":
		if m.Advice == AdviseDontNeed {
			return s.drop(m.Off, m.N)
		}
		s.fetchAll(m.Off, min(m.N, s.conf.Limit/2*PageBytes))
		return nil
	}
	return fmt.Errorf("no call %q", m.Op)
}

// fetchAll brings in the pages of [off, off+n) in batches.
func (s *server) fetchAll(off, n int64) {
	from := uint64(off / PageBytes)
	end := uint64(min((off+n+PageBytes-1)/PageBytes, s.size()/PageBytes))
	for from < end {
		k := min(uint64(s.aheadMax()), end-from)
		if s.missing(from, k) {
			s.fetch(from, int(k), noTrigger)
		}
		from += k
	}
}

// missing reports whether a page of [from, from+n) is missing.
func (s *server) missing(from, n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.states[from : from+n] {
		if st&isPresent == 0 {
			return true
		}
	}
	return false
}

// forgive forgets that pages could not be read. The program takes the poison out of its page tables
// afterwards.
func (s *server) forgive(off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := off / PageBytes; p < (off+n)/PageBytes; p++ {
		s.states[p] &^= isPoisoned
	}
}

// drop evicts the pages of [off, off+n) that are not busy.
func (s *server) drop(off, n int64) error {
	from, end := uint64((off+PageBytes-1)/PageBytes), uint64(min(off+n, s.size())/PageBytes)
	var first error
	for from < end {
		s.mu.Lock()
		ps := make([]uint64, 0, chunkPages)
		for ; from < end && len(ps) < chunkPages; from++ {
			if s.busy[from] == nil && s.states[from]&isPresent != 0 {
				ps = append(ps, from)
			}
		}
		o := s.begin(ps...)
		s.mu.Unlock()
		if _, err := s.expel(ps); err != nil && first == nil {
			first = err
		}
		s.mu.Lock()
		for _, p := range ps {
			if s.states[p]&isPresent == 0 {
				s.policy.Remove(p)
			}
		}
		s.end(o, ps...)
		s.freed.Broadcast()
		s.mu.Unlock()
	}
	return first
}

// advise notes how a range will be used.
func (s *server) advise(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Advice == AdviseNormal && m.Off == 0 && m.N >= s.size() {
		s.hints = nil
		return
	}
	s.hints = append(s.hints, m)
}

// finish writes back and closes the medium.
func (s *server) finish() error {
	err := s.flush()
	s.step("close.flushed")
	s.mu.Lock()
	s.closed = true
	for s.evicting {
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		s.mu.Lock()
	}
	s.mu.Unlock()
	if e := s.medium.Close(); err == nil {
		err = e
	}
	return err
}

// leaveTries bounds the attempts to write back after the program is gone, a tenth of a second
// apart.
const leaveTries = 50

// leave writes back for a program that is gone. P10.
func (s *server) leave() int {
	var err error
	for range leaveTries {
		if err = s.flush(); err == nil {
			return exitDone
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.mu.Lock()
	n := len(s.dirty)
	s.mu.Unlock()
	fmt.Fprintf(os.Stderr, "nvmap: pager: the program is gone, and %d pages that it stored to are lost: %s: %v\n", n, s.conf.Path, err)
	return exitLost
}
