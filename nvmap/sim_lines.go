package nvmap

import (
	"encoding/binary"
	"math/rand/v2"
)

// pendingLine is a line that was stored and not fenced.
type pendingLine struct {
	n        uint64 // line number
	before   line   // content on the medium at the last fence
	versions []version
	flushed  int        // number of versions flushed: the next fence makes the last of them durable
	unlike   bool       // an ignored write made the visible content differ
	first    [1]version // storage of versions: most lines have one
}

// version is the content of a line after write seq.
type version struct {
	seq     int
	content line
}

func (pl *pendingLine) newest() line {
	if len(pl.versions) == 0 {
		return pl.before
	}
	return pl.versions[len(pl.versions)-1].content
}

// at returns the content of the line after write seq.
func (pl *pendingLine) at(seq int) line {
	content := pl.before
	for _, v := range pl.versions {
		if v.seq > seq {
			break
		}
		content = v.content
	}
	return content
}

// put changes bytes in every version.
func (pl *pendingLine) put(at int, part []byte) {
	copy(pl.before[at:], part)
	for i := range pl.versions {
		copy(pl.versions[i].content[at:], part)
	}
}

// clone returns a copy that shares nothing with pl.
func (pl *pendingLine) clone() *pendingLine {
	c := *pl
	c.versions = append([]version(nil), pl.versions...)
	return &c
}

// cut keeps only the versions up to write seq, unflushed, and reports whether any remain.
func (pl *pendingLine) cut(seq int) bool {
	n := 0
	for n < len(pl.versions) && pl.versions[n].seq <= seq {
		n++
	}
	pl.versions, pl.flushed = pl.versions[:n], 0
	return n > 0
}

// torn returns a content whose 8-byte words come from random versions.
func (pl *pendingLine) torn(rng *rand.Rand) line {
	content := pl.before
	for w := range wordsPerLine {
		if i := rng.IntN(len(pl.versions) + 1); i < len(pl.versions) {
			copy(content[w*8:w*8+8], pl.versions[i].content[w*8:])
		}
	}
	return content
}

// garbled returns the durable content with noise in the words that are in flight.
func (pl *pendingLine) garbled(rng *rand.Rand) line {
	content := pl.before
	for w := 0; w < lineBytes; w += 8 {
		for _, v := range pl.versions {
			if [8]byte(v.content[w:]) != [8]byte(pl.before[w:]) {
				binary.LittleEndian.PutUint64(content[w:], rng.Uint64())
				break
			}
		}
	}
	return content
}

// settle makes the flushed versions durable, and reports whether no version remains.
func (pl *pendingLine) settle() bool {
	if pl.flushed == 0 {
		return false
	}
	pl.before = pl.versions[pl.flushed-1].content
	pl.versions = pl.versions[pl.flushed:]
	pl.flushed = 0
	return len(pl.versions) == 0
}

// pendingLines are the pending lines in the order in which they were first
// stored.
type pendingLines struct {
	order []*pendingLine
	index map[uint64]*pendingLine
	spare []*pendingLine // for reuse
}

func (p *pendingLines) get(n uint64) *pendingLine { return p.index[n] }

func (p *pendingLines) add(n uint64, before line) *pendingLine {
	var pl *pendingLine
	if last := len(p.spare) - 1; last >= 0 {
		pl, p.spare = p.spare[last], p.spare[:last]
	} else {
		pl = new(pendingLine)
	}
	*pl = pendingLine{n: n, before: before}
	pl.versions = pl.first[:0]
	p.insert(pl)
	return pl
}

func (p *pendingLines) insert(pl *pendingLine) {
	if p.index == nil {
		p.index = make(map[uint64]*pendingLine)
	}
	p.index[pl.n] = pl
	p.order = append(p.order, pl)
}

// settle calls f for each line with a version that became durable, and removes the lines without
// further versions.
func (p *pendingLines) settle(f func(*pendingLine)) {
	left := p.order[:0]
	for _, pl := range p.order {
		before := pl.flushed
		done := pl.settle()
		if before > 0 {
			f(pl)
		}
		if !done {
			left = append(left, pl)
			continue
		}
		delete(p.index, pl.n)
		p.spare = append(p.spare, pl)
	}
	clear(p.order[len(left):])
	p.order = left
}

// clear removes all lines.
func (p *pendingLines) clear() {
	p.spare = append(p.spare, p.order...)
	p.order = p.order[:0]
	clear(p.index)
}

// pageSet is a set of pages.
type pageSet map[PageID]struct{}

func (ps *pageSet) add(off Off, n int64) {
	if *ps == nil {
		*ps = make(pageSet)
	}
	for p := off.Page(); p.Off() < off+Off(n); p++ {
		(*ps)[p] = struct{}{}
	}
}

// faultPlan says which future calls misbehave. Its counters count down to the call; 0 is never.
type faultPlan struct {
	failWrite, failFence       int
	failWriteErr, failFenceErr error
	ignoreWrite, ignoreFence   int
}

// due counts n down and reports whether it has reached zero.
func due(n *int) bool {
	if *n == 0 {
		return false
	}
	*n--
	return *n == 0
}

func (p *faultPlan) nextWrite() (ignore bool, fail error) {
	if due(&p.failWrite) {
		fail = p.failWriteErr
	}
	return due(&p.ignoreWrite), fail
}

func (p *faultPlan) nextFence() (ignore bool, fail error) {
	if due(&p.failFence) {
		fail = p.failFenceErr
	}
	return due(&p.ignoreFence), fail
}

// FailWrite makes the n-th write from now write half of its bytes and fail with a FaultError that
// wraps err. n counts from 1.
func (s *Sim) FailWrite(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.failWrite, s.plan.failWriteErr = n, err
}

// FailFence makes the n-th fence from now fail with a FaultError that wraps err. As with fsync, the
// pending lines are then uncertain, and only lines that are written again can become durable.
func (s *Sim) FailFence(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.failFence, s.plan.failFenceErr = n, err
}

// IgnoreWrite makes the n-th write from now visible and never durable, without an error. It makes a
// mutant that a crash suite has to catch.
func (s *Sim) IgnoreWrite(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.ignoreWrite = n
}

// IgnoreFence makes the n-th fence from now do nothing and return nil.
func (s *Sim) IgnoreFence(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.ignoreFence = n
}
