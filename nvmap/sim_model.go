package nvmap

import (
	"fmt"
	"math/rand/v2"
)

// A Model gives the units in which a medium keeps or loses writes that were not fenced.
type Model struct {
	Unit int // bytes that are kept or lost together, in one of their versions
	Tear int // bytes within a unit that never tear; Unit: a unit never tears
}

// These are the models of media. The lines of a processor tear between words. A disk writes whole
// sectors. A page cache writes whole pages, each of them sector by sector.
var (
	Lines   = Model{Unit: lineBytes, Tear: 8}
	Sectors = Model{Unit: 512, Tear: 512}
	Pages   = Model{Unit: PageBytes, Tear: 512}
)

// SetModel sets the granularity of images from now on: Lines (the default), Sectors or Pages.
func (s *Sim) SetModel(m Model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model = m
}

// SetPoison lets images replace words in flight by noise, in lines for which may returns true. A
// structure that passes does not depend on such bytes being old or new. may must return false for
// lines where the structure relies on aligned words being stored whole. nil: no noise.
func (s *Sim) SetPoison(may func(line Off) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison = may
}

// block is a group of pending lines that a model keeps or loses together.
type block struct {
	off   Off
	bytes int
	lines []*pendingLine
}

func (b *block) String() string {
	return fmt.Sprintf("the %d bytes at %#x", b.bytes, uint64(b.off))
}

// last returns the number of the newest write to b.
func (b *block) last() (seq int) {
	for _, pl := range b.lines {
		seq = max(seq, pl.versions[len(pl.versions)-1].seq)
	}
	return seq
}

// anySeq returns the number of a random write to b.
func (b *block) anySeq(rng *rand.Rand) int {
	vs := b.lines[rng.IntN(len(b.lines))].versions
	return vs[rng.IntN(len(vs))].seq
}

// blocks groups the pending lines by the model's unit, in the order of the first write to each
// group.
func (s *Sim) blocks() []block {
	out := make([]block, 0, len(s.pending.order))
	if s.model.Unit == lineBytes {
		for i, pl := range s.pending.order {
			out = append(out, block{Off(pl.n * lineBytes), lineBytes, s.pending.order[i : i+1 : i+1]})
		}
		return out
	}
	at := map[Off]int{}
	for _, pl := range s.pending.order {
		off := Off(pl.n*lineBytes) / Off(s.model.Unit) * Off(s.model.Unit)
		i, ok := at[off]
		if !ok {
			i = len(out)
			at[off] = i
			out = append(out, block{off: off, bytes: s.model.Unit})
		}
		out[i].lines = append(out[i].lines, pl)
	}
	return out
}

// keepAt keeps b in its state after write seq.
func (im *Image) keepAt(b block, seq int) {
	for _, pl := range b.lines {
		im.keep(pl, pl.at(seq))
	}
}

// garble puts noise in the words of b that are in flight.
func (im *Image) garble(b block, rng *rand.Rand) {
	for _, pl := range b.lines {
		im.keep(pl, pl.garbled(rng))
	}
}

// tear keeps pieces of b, each in a random version.
func (m Model) tear(im *Image, b block, rng *rand.Rand) {
	if m.Tear < lineBytes {
		for _, pl := range b.lines {
			im.keep(pl, pl.torn(rng))
		}
		return
	}
	seqs := map[uint64]int{}
	for _, pl := range b.lines {
		piece := pl.n * lineBytes / uint64(m.Tear)
		seq, ok := seqs[piece]
		if !ok {
			if rng.IntN(2) == 0 {
				seq = b.anySeq(rng)
			}
			seqs[piece] = seq
		}
		im.keep(pl, pl.at(seq))
	}
}

// poisoned keeps everything, with noise in every line that may have it.
func (s *Sim) poisoned(rng *rand.Rand) *Image {
	return s.choose("noise in what was in flight", func(pl *pendingLine) line {
		if s.poison(Off(pl.n * lineBytes)) {
			return pl.garbled(rng)
		}
		return pl.newest()
	})
}
