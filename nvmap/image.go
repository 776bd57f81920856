package nvmap

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
)

// An Image is one state that a crash may leave: what is certainly durable, with
// a choice for each line that was pending.
type Image struct {
	sim    *Sim
	desc   string
	lines  []imageLine
	killed bool // the lines were chosen newest, and are still pending
}

type imageLine struct {
	n       uint64
	content line
}

// String says how the image came about, and which seed and index to ask for to
// see it again.
func (im *Image) String() string { return im.desc }

// Device returns the image as a device that records and crashes like any Sim.
// Its memory is shared by all images of one Sim: it is good until the next
// image of that Sim is asked for, and its Close keeps the memory.
func (im *Image) Device() *Sim {
	s := im.sim
	s.prepare()
	b := s.workbench()
	b.reset(s)
	b.load(im)
	return b
}

// Clone returns the image as a device on memory of its own.
func (im *Image) Clone() *Sim {
	s := im.sim
	s.prepare()
	c := s.emptyCopy()
	if err := c.base.Write(0, s.durable); err != nil {
		panic(err) // in memory, inside the size
	}
	c.load(im)
	return c
}

// load puts the choices of im on top of what is durable.
func (s *Sim) load(im *Image) {
	for _, l := range im.lines {
		off := Off(l.n * lineBytes)
		if err := s.base.Write(off, l.content[:]); err != nil {
			panic(err) // in memory, inside the size
		}
		if s.touched != nil {
			s.touched.add(off, lineBytes)
		}
	}
	s.keep, s.limit = im.sim.keep, im.sim.limit
	if im.killed {
		for _, pl := range im.sim.pending.order {
			s.pending.insert(pl.clone())
		}
		s.seq = im.sim.seq
	}
}

// emptyCopy returns a Sim of the same size on new memory.
func (s *Sim) emptyCopy() *Sim {
	c := NewSim(NewMem(s.base.Info().MaxBytes))
	if err := c.Grow(s.size.Load()); err != nil {
		panic(err) // address space as large was just reserved
	}
	return c
}

// prepare makes s.durable.
func (s *Sim) prepare() {
	if s.durable != nil {
		return
	}
	s.durable = make([]byte, s.size.Load())
	if err := s.base.Read(0, s.durable); err != nil {
		panic(err)
	}
	for n, content := range s.strays {
		copy(s.durable[n*lineBytes:], content[:])
	}
	for _, pl := range s.pending.order {
		copy(s.durable[pl.n*lineBytes:], pl.before[:])
	}
}

// workbench returns the device that images are tried on.
func (s *Sim) workbench() *Sim {
	if s.bench == nil {
		s.bench = s.emptyCopy()
		s.bench.touched = &pageSet{}
		s.stale.add(0, int64(len(s.durable)))
	}
	return s.bench
}

// reset gives a workbench the durable bytes of s, copying only the pages that
// may differ, and forgets everything else it went through.
func (b *Sim) reset(s *Sim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := int64(len(s.durable))
	if err := b.base.Grow(size); err != nil {
		panic(err) // address space as large was reserved
	}
	for _, set := range []pageSet{s.stale, *b.touched} {
		for p := range set {
			b.restore(p, s.durable)
		}
	}
	clear(s.stale)
	clear(*b.touched)
	b.size.Store(size)
	b.writes.Store(0)
	b.fences.Store(0)
	b.onWrite.Store(nil)
	b.onFence.Store(nil)
	b.closed.Store(false)
	b.pending = pendingLines{}
	clear(b.strays)
	b.seq = 0
	b.plan = faultPlan{}
	b.durable = nil
	b.stale = nil
	if b.bench != nil { // its memory has nothing to do with the new state
		b.stale.add(0, max(size, b.bench.base.Size()))
	}
}

// restore copies page p of the durable bytes; beyond their end it is zero.
func (b *Sim) restore(p PageID, durable []byte) {
	var page [PageBytes]byte
	if p.Off() < Off(len(durable)) {
		copy(page[:], durable[p.Off():])
	}
	if err := b.base.Write(p.Off(), page[:]); err != nil {
		panic(err) // the page was written before
	}
}

// Images walks through states that a crash now may leave, at most limit of them
// (0: 1000): nothing of what is pending, all of it, the killed process, each
// line alone, all but each line, the state after each write, all but the state
// before it, all subsets of the lines when limit allows, and random choices of
// versions and torn words to fill up. When the systematic ones are too many, a
// random sample of them leaves a quarter for the random ones. Equal arguments
// on equal histories give equal images.
//
// This Sim stands still until the walk is over: Writes, Fences, Size, Read and
// Mapping answer, all else waits, also for a body that calls it. An image is
// good for the body that got it, and for nobody later.
func (s *Sim) Images(seed uint64, limit int) iter.Seq[*Image] {
	if limit <= 0 {
		limit = 1000
	}
	return func(yield func(*Image) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		rng := rand.New(rand.NewPCG(seed, uint64(s.seq)))
		n := 0
		emit := func(im *Image) bool {
			im.desc = fmt.Sprintf("image %d of seed %d: %s; %d lines pending", n, seed, im.desc, len(s.pending.order))
			n++
			return n <= limit && yield(im)
		}
		if !emit(s.nothing()) || len(s.pending.order) == 0 {
			return
		}
		for _, im := range []*Image{s.everything(), s.killed()} {
			if !emit(im) {
				return
			}
		}
		for _, c := range s.systematic(rng, limit) {
			if !emit(c()) {
				return
			}
		}
		for n < limit {
			if !emit(s.random(rng, "random")) {
				return
			}
		}
	}
}

func (s *Sim) nothing() *Image {
	return &Image{sim: s, desc: "nothing pending kept"}
}

func (s *Sim) everything() *Image {
	return s.choose("everything pending kept", func(pl *pendingLine) line { return pl.newest() })
}

func (s *Sim) killed() *Image {
	im := s.everything()
	im.desc, im.killed = "process killed, lines still pending", true
	return im
}

// choose makes an image from a choice for each pending line.
func (s *Sim) choose(desc string, pick func(*pendingLine) line) *Image {
	im := &Image{sim: s, desc: desc}
	for _, pl := range s.pending.order {
		if content := pick(pl); content != pl.before {
			im.lines = append(im.lines, imageLine{pl.n, content})
		}
	}
	return im
}

// systematic returns makers of the images that are not random, shuffled and cut
// to three quarters of limit if they are more.
func (s *Sim) systematic(rng *rand.Rand, limit int) []func() *Image {
	lines := s.pending.order
	var all []func() *Image
	if k := len(lines); k <= 16 && 1<<k <= limit {
		for set := range uint64(1) << k {
			all = append(all, func() *Image { return s.subset(set) })
		}
	} else {
		for _, pl := range lines {
			all = append(all,
				func() *Image { return s.single(pl) },
				func() *Image { return s.allBut(pl) })
		}
	}
	for _, seq := range s.pendingSeqs() {
		all = append(all,
			func() *Image { return s.prefix(seq) },
			func() *Image { return s.suffix(seq) })
	}
	if most := max(limit-limit/4-3, 0); len(all) > most {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:most]
	}
	return all
}

// pendingSeqs returns the numbers of the writes that made versions, ascending,
// but for the last: after that one, everything is there.
func (s *Sim) pendingSeqs() []int {
	var seqs []int
	for _, pl := range s.pending.order {
		for _, v := range pl.versions {
			seqs = append(seqs, v.seq)
		}
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	return seqs[:len(seqs)-1]
}

func (s *Sim) subset(set uint64) *Image {
	i := -1
	return s.choose(fmt.Sprintf("lines %b", set), func(pl *pendingLine) line {
		if i++; set>>i&1 != 0 {
			return pl.newest()
		}
		return pl.before
	})
}

func (s *Sim) single(one *pendingLine) *Image {
	return s.choose(fmt.Sprintf("only line %#x", one.n*lineBytes), func(pl *pendingLine) line {
		if pl == one {
			return pl.newest()
		}
		return pl.before
	})
}

func (s *Sim) allBut(one *pendingLine) *Image {
	return s.choose(fmt.Sprintf("all but line %#x", one.n*lineBytes), func(pl *pendingLine) line {
		if pl == one {
			return pl.before
		}
		return pl.newest()
	})
}

// prefix is the state right after write seq.
func (s *Sim) prefix(seq int) *Image {
	return s.choose(fmt.Sprintf("writes up to %d", seq), func(pl *pendingLine) line { return pl.at(seq) })
}

// suffix keeps the lines that were written after write seq, and no others.
func (s *Sim) suffix(seq int) *Image {
	return s.choose(fmt.Sprintf("lines written after write %d", seq), func(pl *pendingLine) line {
		if pl.versions[len(pl.versions)-1].seq > seq {
			return pl.newest()
		}
		return pl.before
	})
}

// random lets each line be lost, whole in some version, or torn between words.
func (s *Sim) random(rng *rand.Rand, desc string) *Image {
	keep := rng.IntN(8) // the odds differ from image to image
	return s.choose(desc, func(pl *pendingLine) line {
		switch {
		case rng.IntN(8) > keep:
			return pl.before
		case rng.IntN(4) != 0:
			return pl.newest()
		case rng.IntN(2) == 0:
			return pl.versions[rng.IntN(len(pl.versions))].content
		}
		return pl.torn(rng)
	})
}

// torn takes each 8-byte word from a version of its own.
func (pl *pendingLine) torn(rng *rand.Rand) line {
	content := pl.before
	for w := range wordsPerLine {
		if i := rng.IntN(len(pl.versions) + 1); i < len(pl.versions) {
			copy(content[w*8:w*8+8], pl.versions[i].content[w*8:])
		}
	}
	return content
}
