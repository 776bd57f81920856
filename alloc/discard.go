package alloc

import (
	"errors"
	"fmt"
)

// A free slab need not have blocks behind it: a file system gets them back, so
// that a store that shrank takes less of it. The slab has blocks again before it
// is carved (A11). Which free slabs have blocks is known in DRAM only; after an
// opening nobody knows, and Allocate is asked before one is used.
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

func (r *Region) setBlocks(i int, b blocks) {
	s := &r.slabs[i]
	if s.blocks == blocksGone {
		r.goneSlabs--
	}
	if s.blocks = b; b == blocksGone {
		r.goneSlabs++
	}
}

// backAny finds a free slab that has blocks or gets them. On a full file system
// most do not; the walk is bounded, because whoever asks holds others up.
func (r *Region) backAny(first int) (int32, error) {
	err := r.back(first)
	for tries := 0; err != nil && errors.Is(err, ErrFull) && tries < backTries; tries++ {
		first = int(r.nextFreeSlab())
		err = r.back(first)
	}
	return int32(first), err
}

const backTries = 256

// backGone gives blocks back to a free slab that is known to have none, so that
// those with blocks remain for urgent callers: a reserve that a full file system
// would have to fill is none.
func (r *Region) backGone() (int32, error) {
	for range r.slabs {
		i := r.goneHint % len(r.slabs)
		r.goneHint = i + 1
		if r.isFree(i) && r.slabs[i].blocks == blocksGone {
			return int32(i), r.back(i)
		}
	}
	return none, fmt.Errorf("%w: %d slabs without blocks are counted, and none is found", ErrFull, r.goneSlabs)
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
	if r.off&RuleA12 == 0 {
		if err := writeWord(r.m, headSizeOff, packSize(n)); err != nil {
			return 0, err
		}
	}
	if err := dev.Truncate(r.geo.sizeOf(n)); err != nil {
		return 0, err
	}
	if r.off&RuleA12 != 0 {
		return cut, writeWord(r.m, headSizeOff, packSize(n))
	}
	r.slabs = r.slabs[:n]
	return cut, nil
}
