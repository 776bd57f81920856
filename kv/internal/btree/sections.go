package btree

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"nvkv/kv/internal/locks"
)

// Sections counts the sections under way. Readers take pointers to index pages and use them without
// checking again whether the page still has a frame. So every use of pages lies in a section. The
// memory of a frame is freed only after all sections have ended that began before readers were
// turned away from the frame (I13).
//
// A section must not wait for a lock whose owner may wait for sections: checkpoints.mu and the
// turn. After its end nothing may be used that it got from a page, except copies.
//
// Sections are counted in stripes, so that goroutines rarely share a cache line, and in two sets.
// New sections use one of the sets, so the other one drains however many readers there are.
type Sections struct {
	parity atomic.Uint32
	in     [2]Stripes
	mu     sync.Mutex // one goroutine waits at a time
}

const (
	readerStripes = 64

	// aGet is the unit in which a stripe counts point reads. Below it there is room for more
	// sections than a stripe can have at a time, above it for 10^13 reads. So counting reads costs
	// nothing.
	aGet = 1 << 20
)

type Stripes [readerStripes]Section

type Section struct {
	n atomic.Int64 // sections under way, plus aGet for each point read that has ended
	raceRef
	_ [56]byte
}

// pick returns a stripe that depends on the address of the caller's stack.
func (s *Stripes) pick() *Section {
	var here byte
	h := uintptr(unsafe.Pointer(&here)) >> 11
	return &s[(h^h>>6)%readerStripes]
}

// Begin counts the caller in a stripe. This is no section: no one frees frames because of it. The
// caller calls LeaveInside on the result.
func (s *Stripes) Begin() *Section {
	c := s.pick()
	c.n.Add(1)
	return c
}

// Count returns how many callers are counted now.
func (s *Stripes) Count() (n int64) {
	for i := range s {
		n += s[i].n.Load() % aGet
	}
	return n
}

// Drained returns after each stripe was seen empty once.
func (s *Stripes) Drained() {
	for i := range s {
		for spins := 0; s[i].n.Load()%aGet != 0; spins++ {
			Pause(spins)
		}
	}
}

// Pause lets other goroutines run between two looks. spins is the number of looks so far.
func Pause(spins int) {
	if spins < drainSpins {
		runtime.Gosched()
	} else {
		time.Sleep(drainPoll)
	}
}

const (
	drainSpins = 100
	drainPoll  = 20 * time.Microsecond
)

// Guard sets the lock that sections hold in race builds.
func (p *Sections) Guard(l *RaceLock) {
	for i := range p.in {
		for j := range p.in[i] {
			p.in[i][j].of(l)
		}
	}
}

// Begin begins a section. The caller calls Leave on the result.
func (p *Sections) Begin() *Section {
	locks.Await(locks.Section)
	locks.Took(locks.Section)
	s := p.in[p.parity.Load()&1].pick()
	s.rlock()
	s.n.Add(1)
	return s
}

// BeginInside begins a section of the goroutine that has the turn and, in race builds, holds the
// lock already. It ends with LeaveInside.
func (p *Sections) BeginInside() *Section {
	s := p.in[p.parity.Load()&1].pick()
	s.n.Add(1)
	return s
}

func (s *Section) LeaveInside() { s.n.Add(-1) }

func (s *Section) Leave() {
	locks.Gave(locks.Section)
	s.n.Add(-1)
	s.runlock()
}

// LeaveGet ends the section of a point read and counts the read.
func (s *Section) LeaveGet() {
	locks.Gave(locks.Section)
	s.n.Add(aGet - 1)
	s.runlock()
}

// Gets returns how many point reads have ended.
func (p *Sections) Gets() (n uint64) {
	for i := range p.in {
		for j := range p.in[i] {
			n += uint64(p.in[i][j].n.Load()) / aGet
		}
	}
	return n
}

// Wait returns when every section has ended that began before the call. A section may read the
// parity before it changes and be counted after its set was seen empty. Such a section began after
// the call; the next Wait first drains its set.
func (p *Sections) Wait() {
	locks.Await(locks.Section)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.parity.Load() & 1
	p.in[1-now].Drained()
	p.parity.Store(1 - now)
	p.in[now].Drained()
}
