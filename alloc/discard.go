package alloc

import (
	"errors"
	"fmt"
	"slices"
)

// A free slab need not have blocks behind it: a file system gets them back, so
// that a store that shrank takes less of it. The slab has blocks again before it
// is carved (A11). Which free slabs have blocks is known in DRAM only; after an
// opening nobody knows, and Allocate is asked before one is used. The reserve
// counts those that surely have some: what a full file system would have to give
// is no reserve.
//
//   - A10. A slab's blocks are given back only while it is free, and after a
//     checkpoint has flipped that was frozen while it was free: nothing that a
//     recovery may look at lies in it, no tombstone for instance. Headers,
//     descriptors and maps are spared.
//   - A11. A slab that may have no blocks gets them before it is carved: a file
//     system that is full is an error of whoever needs the slab, never a fault.
//   - A12. When free groups are cut off the end, the size word names fewer slabs,
//     fenced, before the device is cut: a device is never shorter than it says.

// blocks says whether the device has blocks behind a free slab.
type blocks uint8

const (
	blocksUnknown blocks = iota // since the opening
	blocksThere
	blocksGone
)

// back makes sure that free slab i has blocks (A11).
func (r *Region) back(i int) error {
	s := &r.slabs[i]
	if s.blocks == blocksThere || r.readOnly {
		return nil
	}
	if r.off&RuleA11 == 0 {
		if err := r.m.Allocate(r.geo.slabOff(i), int64(r.geo.slabBytes)); err != nil {
			r.setBlocks(i, blocksGone)
			return err
		}
	}
	r.setBlocks(i, blocksThere)
	return nil
}

// setBlocks says what is behind slab i, which is free and can be had.
func (r *Region) setBlocks(i int, b blocks) {
	s := &r.slabs[i]
	r.countBlocks(s.blocks, -1)
	s.blocks = b
	r.countBlocks(b, +1)
}

func (r *Region) countBlocks(b blocks, d int) {
	switch b {
	case blocksThere:
		r.sureSlabs += d
	case blocksGone:
		r.goneSlabs += d
	}
}

// unsure returns how many free slabs nobody has asked Allocate for since the
// opening.
func (r *Region) unsure() int { return r.freeSlabs - r.sureSlabs - r.goneSlabs }

// backTries bounds how many slabs are asked blocks for in a row on a file system
// that is full: whoever asks holds others up.
const backTries = 256

// errNoBlocks is what callers get who are not urgent while the reserve still
// looks for slabs that have blocks.
var errNoBlocks = fmt.Errorf("%w: %d free slabs in a row got no blocks", ErrFull, backTries)

// secure makes the reserve, and a slab for the caller, of slabs that have blocks,
// as far as nobody knows whether they do, and says whether that is settled. An opening finds the slabs
// that were left with blocks at the end: TakeDiscardable begins at the front.
func (r *Region) secure() bool {
	for range backTries {
		if r.sureSlabs > r.reserve || r.unsure() == 0 || r.readOnly {
			return true
		}
		i := r.lastUnsure()
		if i == none {
			return true
		}
		if err := r.back(int(i)); err != nil && !errors.Is(err, ErrFull) {
			return true // whoever takes it meets the error
		}
	}
	return false
}

// lastUnsure returns the next free slab that nobody knows of, downwards, or none.
func (r *Region) lastUnsure() int32 {
	for range r.slabs {
		if r.secureHint--; r.secureHint < 0 || r.secureHint >= len(r.slabs) {
			r.secureHint = len(r.slabs) - 1
		}
		if r.isFree(r.secureHint) && r.slabs[r.secureHint].blocks == blocksUnknown {
			return int32(r.secureHint)
		}
	}
	return none
}

// have makes free slab i one that the caller can have, with blocks, who must
// leave so many that surely have some.
func (r *Region) have(i int32, keep int) error {
	if r.slabs[i].blocks == blocksThere && r.sureSlabs <= keep && r.sureSlabs < r.freeSlabs {
		return fmt.Errorf("%w: the last %d slabs with blocks are kept", ErrFull, keep)
	}
	return r.back(int(i))
}

// haveOther finds another free slab where the one that is next cannot be had:
// one that has blocks, if the caller may take it, or one that gets them.
func (r *Region) haveOther(keep int) (int32, error) {
	if r.sureSlabs > keep {
		return r.freeWith(blocksThere), nil
	}
	for range min(backTries, r.unsure()) {
		i := r.freeWith(blocksUnknown)
		if err := r.back(int(i)); !errors.Is(err, ErrFull) {
			return i, err
		}
	}
	if i := r.freeWith(blocksGone); i != none {
		return i, r.back(int(i))
	}
	return none, fmt.Errorf("%w: no free slab has blocks, but for %d that are kept", ErrFull, r.sureSlabs)
}

// freeWith returns the next free slab with what b says behind it, or none.
func (r *Region) freeWith(b blocks) int32 {
	for range r.slabs {
		i := r.blocksHint % len(r.slabs)
		r.blocksHint = i + 1
		if r.isFree(i) && r.slabs[i].blocks == b {
			return int32(i)
		}
	}
	return none
}

// DiscardMost bounds the stretch that TakeDiscardable returns, in slabs: giving
// blocks back takes a file system a moment for each of them.
const DiscardMost = 64

// Discardable returns how many bytes of free slabs may have blocks that could be
// given back: those beyond the reserve and a stock for what is written next.
func (r *Region) Discardable() int64 {
	return int64(max(0, r.freeSlabs-r.goneSlabs-r.stock())) * int64(r.geo.slabBytes)
}

// stock is how many free slabs keep their blocks: a sixteenth of those in use.
func (r *Region) stock() int {
	return r.reserve + max(stockSlabs, (len(r.slabs)-r.freeSlabs)/16)
}

const stockSlabs = 12

// TakeDiscardable takes a stretch of free slabs, in use by nobody since before
// the checkpoint of an interval was frozen, out of what can be allocated (A10).
// It begins to look at slab from, and says where to go on; length is 0 when
// there is none. The caller discards it, which needs no turn, and gives it back
// with GiveDiscarded.
func (r *Region) TakeDiscardable(from int, flipped uint64) (first, length, next int) {
	if r.readOnly || r.Discardable() == 0 && r.off&RuleA10 == 0 {
		return 0, 0, len(r.slabs)
	}
	most := min(DiscardMost, int(r.Discardable()/int64(r.geo.slabBytes)))
	if r.off&RuleA10 != 0 {
		most = DiscardMost
	}
	i := max(from, 0)
	for ; i < len(r.slabs) && length < most; i++ {
		s := &r.slabs[i]
		may := r.isFree(i) && s.blocks != blocksGone && s.freed < flipped
		if r.off&RuleA10 != 0 && s.kind == KindRecord && s.liveN == 0 {
			_ = r.Discard(i, 1)
		}
		switch {
		case may && length == 0:
			first, length = i, 1
		case may:
			length++
		case length > 0:
			return r.take(first, length, i)
		}
	}
	return r.take(first, length, i)
}

func (r *Region) take(first, length, next int) (int, int, int) {
	for i := first; i < first+length; i++ {
		r.slabs[i].away = true
		r.countFree(int32(i), -1)
		r.away++
	}
	return first, length, next
}

// Discard gives the blocks of a stretch back that was taken. It is safe beside
// everything.
func (r *Region) Discard(first, length int) error {
	return r.m.Discard(r.geo.slabOff(first), int64(length)*int64(r.geo.slabBytes))
}

// GiveDiscarded makes a stretch that was taken free again; gone says whether its
// blocks may be gone.
func (r *Region) GiveDiscarded(first, length int, gone bool) {
	for i := first; i < first+length; i++ {
		r.slabs[i].away = false
		r.countFree(int32(i), +1)
		r.away--
		if gone {
			r.setBlocks(i, blocksGone)
			r.discarded += int64(r.geo.slabBytes)
		}
	}
}

// tailSlabs returns how many slabs remain when free groups are cut off the end;
// the first group stays.
func (r *Region) tailSlabs() int {
	n := len(r.slabs)
	for n > r.geo.groupSlabs {
		first := (n - 1) &^ (r.geo.groupSlabs - 1)
		for i := first; i < n; i++ {
			if !r.geo.isMeta(i) && r.slabs[i].kind != KindFree {
				return n
			}
		}
		n = first
	}
	return n
}

// Truncate cuts free groups off the end of the device, if it can be cut, and
// returns by how many bytes. It is for the end of an opening: nobody reads or
// writes any more, and the last checkpoint has flipped and has those groups
// empty. A12: the size word names fewer slabs, fenced, before the device is cut.
func (r *Region) Truncate() (int64, error) {
	dev, ok := r.m.Device().(interface {
		CanTruncate() bool
		Truncate(size int64) error
	})
	n := r.tailSlabs()
	if !ok || !dev.CanTruncate() || n == len(r.slabs) || r.readOnly {
		return 0, nil
	}
	cut := r.geo.sizeOf(len(r.slabs)) - r.geo.sizeOf(n)
	steps := []func() error{
		func() error { return writeWord(r.m, headSizeOff, packSize(n)) },
		func() error { return dev.Truncate(r.geo.sizeOf(n)) },
	}
	if r.off&RuleA12 != 0 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return 0, err
		}
	}
	for i := n; i < len(r.slabs); i++ {
		if !r.geo.isMeta(i) {
			r.removeSlab(i)
		}
	}
	r.slabs = r.slabs[:n]
	return cut, nil
}
