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
	killed int // the write after which the process died: the lines are still pending; 0: the power went
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
	s.model, s.poison = im.sim.model, im.sim.poison
	if im.killed > 0 {
		for _, pl := range im.sim.pending.order {
			if c := pl.clone(); c.cut(im.killed) {
				s.pending.insert(c)
			}
		}
		s.seq = im.killed
	}
}

// emptyCopy returns a Sim of the same size on new memory.
func (s *Sim) emptyCopy() *Sim {
	c := NewSim(NewMem(s.base.Info().MaxBytes))
	if err := c.Grow(s.size.Load()); err != nil {
		panic(err) // address space as large was just reserved
	}
	c.hidden = s.hidden
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
	b.rule.Store(nil)
	b.pace.Store(nil)
	b.lost.clear()
	b.closed.Store(false)
	b.pending.clear()
	clear(b.strays)
	b.seq = 0
	b.plan = faultPlan{}
	b.lints = Lints{}
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
// (0: 5000): nothing of what is pending, all of it, the process killed after each
// write, each line alone, all but each line, the state after each write, all but
// the state before it, all subsets of the lines when limit allows (5000 does up
// to 12 lines), and random choices of versions and torn words to fill up. When
// the systematic ones are too many, a random sample of them leaves a quarter for
// the random ones. Equal arguments on equal histories give equal images.
//
// What is said of lines goes for sectors and pages where the model is one of
// them.
//
// This Sim stands still until the walk is over: Writes, Fences, Size, Read and
// Mapping answer, all else waits, also for a body that calls it. An image is
// good for the body that got it, and for nobody later.
func (s *Sim) Images(seed uint64, limit int) iter.Seq[*Image] {
	if limit <= 0 {
		limit = imagesDefault
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
		for _, im := range []*Image{s.everything(), s.killed(s.seq)} {
			if !emit(im) {
				return
			}
		}
		for _, make := range s.systematic(rng, limit) {
			if !emit(make()) {
				return
			}
		}
		blocks := s.blocks()
		for n < limit {
			if !emit(s.random(blocks, rng, "random")) {
				return
			}
		}
	}
}

const (
	imagesDefault = 5000 // a little more than all subsets of subsetBlocks lines
	subsetBlocks  = 12
)

func (s *Sim) nothing() *Image {
	return &Image{sim: s, desc: "nothing pending kept"}
}

func (s *Sim) everything() *Image {
	return s.choose("everything pending kept", (*pendingLine).newest)
}

// killed is what the next process finds when this one died after write seq and
// the machine lives: that much is visible, none of it durable, and no fence of
// the next process covers it unless it is written again.
func (s *Sim) killed(seq int) *Image {
	im := s.prefix(seq)
	im.desc, im.killed = fmt.Sprintf("process killed after write %d, lines still pending", seq), seq
	return im
}

// choose makes an image from a choice for each pending line.
func (s *Sim) choose(desc string, pick func(*pendingLine) line) *Image {
	im := &Image{sim: s, desc: desc}
	for _, pl := range s.pending.order {
		im.keep(pl, pick(pl))
	}
	return im
}

// keep chooses the content of a line.
func (im *Image) keep(pl *pendingLine, content line) {
	if content != pl.before {
		im.lines = append(im.lines, imageLine{pl.n, content})
	}
}

// chooseBlocks makes an image that keeps the blocks that kept says, and nothing
// of the others.
func (s *Sim) chooseBlocks(desc string, blocks []block, kept func(i int) bool) *Image {
	im := &Image{sim: s, desc: desc}
	for i, b := range blocks {
		if kept(i) {
			for _, pl := range b.lines {
				im.keep(pl, pl.newest())
			}
		}
	}
	return im
}

// systematic returns makers of the images that are not random, shuffled and cut
// to three quarters of limit if they are more.
func (s *Sim) systematic(rng *rand.Rand, limit int) []func() *Image {
	blocks := s.blocks()
	var all []func() *Image
	if k := len(blocks); k <= subsetBlocks && 1<<k <= limit {
		for set := range uint64(1) << k {
			all = append(all, func() *Image {
				return s.chooseBlocks(fmt.Sprintf("blocks %b", set), blocks, func(i int) bool { return set>>i&1 != 0 })
			})
		}
	} else {
		for one, b := range blocks {
			all = append(all,
				func() *Image {
					return s.chooseBlocks("only "+b.String(), blocks, func(i int) bool { return i == one })
				},
				func() *Image {
					return s.chooseBlocks("all but "+b.String(), blocks, func(i int) bool { return i != one })
				})
		}
	}
	for _, seq := range s.pendingSeqs() {
		all = append(all,
			func() *Image { return s.prefix(seq) },
			func() *Image { return s.killed(seq) },
			func() *Image { return s.suffix(blocks, seq) })
	}
	if s.poison != nil {
		all = append(all, func() *Image { return s.poisoned(rng) })
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

// prefix is the state right after write seq.
func (s *Sim) prefix(seq int) *Image {
	return s.choose(fmt.Sprintf("writes up to %d", seq), func(pl *pendingLine) line { return pl.at(seq) })
}

// suffix keeps the blocks that were written after write seq, and no others.
func (s *Sim) suffix(blocks []block, seq int) *Image {
	return s.chooseBlocks(fmt.Sprintf("blocks written after write %d", seq), blocks, func(i int) bool {
		return blocks[i].last() > seq
	})
}

// random lets each block be lost, whole in some version, or torn.
func (s *Sim) random(blocks []block, rng *rand.Rand, desc string) *Image {
	im := &Image{sim: s, desc: desc}
	keep := rng.IntN(8) // the odds differ from image to image
	poison := s.poison != nil && rng.IntN(4) == 0
	for _, b := range blocks {
		switch {
		case rng.IntN(8) > keep:
			// lost
		case poison && s.poison(b.off) && rng.IntN(2) == 0:
			im.garble(b, rng)
		case rng.IntN(4) != 0:
			im.keepAt(b, b.last())
		case rng.IntN(2) == 0:
			im.keepAt(b, b.anySeq(rng))
		default:
			s.model.tear(im, b, rng)
		}
	}
	return im
}
