package btree

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"nvkv/kv/internal/locks"
)

// Readers take pointers to index pages and use them without asking again
// whether the page still has a frame. So that frames can go all the same, every
// use of pages lies in a section, and the memory of a frame is given back only
// when all sections have ended that had begun before readers were turned away
// from it (I13). A section waits for no lock that is held while somebody waits for
// sections: not for the turn, not for publish, not for a checkpoint. What it got
// from a page it does not use after its end, unless that is a copy.
//
// Sections are counted in stripes, so that they rarely share a line, and in two
// sets, of which new sections take one: the other runs empty however many
// readers there are.
type Sections struct {
	parity atomic.Uint32
	in     [2]Stripes
	mu     sync.Mutex // one goroutine waits at a time
}

const (
	readerStripes = 64

	// aGet leaves room below it for more sections than there can be goroutines in
	// one at a time, and above it for 10^13 reads: counting them costs nothing.
	aGet = 1 << 20
)

type Stripes [readerStripes]Section

type Section struct {
	n atomic.Int64 // sections under way, and aGet for each point read that has ended
	raceRef
	_ [56]byte
}

// pick returns a stripe by where the caller's stack is.
func (s *Stripes) pick() *Section {
	var here byte
	h := uintptr(unsafe.Pointer(&here)) >> 11
	return &s[(h^h>>6)%readerStripes]
}

// Begin counts one in that is no section; the caller calls endInside on what it returns.
func (s *Stripes) Begin() *Section {
	c := s.pick()
	c.n.Add(1)
	return c
}

// Count returns how many are under way.
func (s *Stripes) Count() (n int64) {
	for i := range s {
		n += s[i].n.Load() % aGet
	}
	return n
}

// Drained returns when each stripe was seen empty.
func (s *Stripes) Drained() {
	for i := range s {
		for spins := 0; s[i].n.Load()%aGet != 0; spins++ {
			Pause(spins)
		}
	}
}

// Pause lets others go on between two looks, of which there were so many before.
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

// Guard tells the sections of the lock that they hold in race builds.
func (p *Sections) Guard(l *RaceLock) {
	for i := range p.in {
		for j := range p.in[i] {
			p.in[i][j].of(l)
		}
	}
}

// Begin begins a section; the caller calls leave on what it returns.
func (p *Sections) Begin() *Section {
	locks.Await(locks.Section)
	locks.Took(locks.Section)
	s := p.in[p.parity.Load()&1].pick()
	s.rlock()
	s.n.Add(1)
	return s
}

// BeginInside begins the section of whoever holds the turn and, in race builds,
// keeps readers out. It ends with endInside.
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

// LeaveGet is leave at the end of a point read.
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

// Wait returns when every section has ended that began before it was called. A
// section that read the parity before it changed, and is counted after its set
// was seen empty, began later than that; the next wait begins with its set.
func (p *Sections) Wait() {
	locks.Await(locks.Section)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.parity.Load() & 1
	p.in[1-now].Drained()
	p.parity.Store(1 - now)
	p.in[now].Drained()
}
