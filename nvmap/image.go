package nvmap

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
)

// An Image is one state that a crash may leave: the durable bytes, with a choice for each pending
// line.
type Image struct {
	sim    *Sim
	desc   string
	lines  []imageLine
	killed int // the process died after this write and its lines are still pending; 0: the power failed
}

type imageLine struct {
	n       uint64
	content line
}

// String says how the image arose, with the seed and the index that make it again.
func (im *Image) String() string { return im.desc }

// Device returns the image as a device that records and crashes like any Sim. All images of one Sim
// share its memory: the device is valid until the next image of that Sim is asked for. Closing it
// keeps the memory.
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
	c.fill(s.durable)
	c.load(im)
	return c
}

// fill copies durable bytes into new memory and skips pages of zeros. Most pages of most devices
// are zero, and each copy would make the system commit a page.
func (s *Sim) fill(durable []byte) {
	var zero [PageBytes]byte
	for at := 0; at < len(durable); at += PageBytes {
		page := durable[at:min(at+PageBytes, len(durable))]
		if bytes.Equal(page, zero[:len(page)]) {
			continue
		}
		if err := s.base.Write(Off(at), page); err != nil {
			panic(err) // cannot happen: the write is in memory and inside the size
		}
	}
}

// load puts the choices of im on top of the durable bytes.
func (s *Sim) load(im *Image) {
	for _, l := range im.lines {
		off := Off(l.n * lineBytes)
		if err := s.base.Write(off, l.content[:]); err != nil {
			panic(err) // cannot happen: the write is in memory and inside the size
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
		panic(err) // cannot happen: as much address space was just reserved
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
	if s.bench != nil { // the bench belongs to an earlier history, which may have been shorter
		s.stale.add(0, int64(len(s.durable)))
	}
}

// workbench returns the device on which images are tried.
func (s *Sim) workbench() *Sim {
	if s.bench == nil {
		s.bench = s.emptyCopy()
		s.bench.touched = &pageSet{}
		s.stale.add(0, int64(len(s.durable)))
	}
	return s.bench
}

// reset gives a workbench the durable bytes of s. It copies only the pages that may differ, and
// clears the rest of the workbench's state.
func (b *Sim) reset(s *Sim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := int64(len(s.durable))
	if err := b.base.Grow(size); err != nil {
		panic(err) // cannot happen: as much address space was reserved
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
	if b.bench != nil { // the memory of its bench does not match the new state
		b.stale.add(0, max(size, b.bench.base.Size()))
	}
}

// restore copies page p of the durable bytes. Beyond their end the page is zero.
func (b *Sim) restore(p PageID, durable []byte) {
	var page [PageBytes]byte
	if p.Off() < Off(len(durable)) {
		copy(page[:], durable[p.Off():])
	}
	if err := b.base.Write(p.Off(), page[:]); err != nil {
		panic(err) // cannot happen: the page was written before
	}
}

// Images yields states that a crash at this moment may leave, at most limit of them (0: 5000). The
// systematic ones are: nothing pending kept; everything kept; the process killed after each write;
// each line alone; all but each line; the state after each write; all but the state before it; and
// all subsets of the lines if limit allows (5000 suffices for 12 lines). Random choices of versions
// and torn words fill up the rest. If there are too many systematic images, a random sample of them
// leaves a quarter for the random ones. Equal arguments on equal histories give equal images.
//
// If the model's unit is a sector or a page, read "line" as that unit.
//
// The Sim stands still until the iteration ends. Write, Fence, Size, Read and Mapping answer. All
// other methods wait, also when the loop body calls them. An image is valid inside the loop body
// that received it.
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
	imagesDefault = 5000 // a few more than all subsets of subsetBlocks lines
	subsetBlocks  = 12
)

func (s *Sim) nothing() *Image {
	return &Image{sim: s, desc: "nothing pending kept"}
}

func (s *Sim) everything() *Image {
	return s.choose("everything pending kept", (*pendingLine).newest)
}

// killed is the state that the next process finds when this one died after write seq and the
// machine stayed up. The writes up to seq are visible and not durable. No fence of the next process
// covers them unless it writes them again.
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

// chooseBlocks makes an image that keeps the blocks for which kept returns true, and no others.
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

// systematic returns makers of the images that are not random. If they are more than three quarters
// of limit, it returns a random sample of that many.
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

// pendingSeqs returns the numbers of the writes that made versions, ascending, without the last:
// the state after the last write is everything.
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

// suffix keeps only the blocks that were written after write seq.
func (s *Sim) suffix(blocks []block, seq int) *Image {
	return s.chooseBlocks(fmt.Sprintf("blocks written after write %d", seq), blocks, func(i int) bool {
		return blocks[i].last() > seq
	})
}

// random loses each block, keeps it whole in some version, or tears it.
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
