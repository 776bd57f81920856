package alloc

import (
	"errors"
	"fmt"
	"slices"
)

// A free slab need not have blocks behind it. The store gives blocks back to the file system, so
// that a store that shrank occupies less of it. A slab must have blocks again before it is carved
// (A11). The region records only in DRAM which free slabs have blocks. After an opening that is
// unknown, and the region calls Allocate before it uses a free slab. The reserve counts only slabs
// that certainly have blocks, because a full file system may have none to give.
//
//   - A10. A slab's blocks are given back only while it is free, and only after the flip of a
//     checkpoint that was frozen while it was free. Then nothing that a recovery may read lies in
//     it, such as a tombstone. Blocks of headers, descriptors and maps are never given back.
//   - A11. A slab that may have no blocks gets them before it is carved. If the file system is
//     full, the caller that needs the slab gets an error, never a fault.
//   - A12. When free groups are cut off the end, the size word names fewer slabs, fenced, before
//     the device is cut. So a device is never shorter than its size word says.

// blocks says whether the device has blocks behind a free slab.
type blocks uint8

const (
	blocksUnknown blocks = iota // not known since the opening
	blocksThere
	blocksGone
)

// back makes sure that free slab i has blocks (A11).
func (r *Region) back(i int) error {
	s := &r.slabs[i]
	if s.blocks == blocksThere || r.readOnly {
		return nil
	}
	if !r.off.has(ruleA11) {
		if err := r.m.Allocate(r.geo.slabOff(i), int64(r.geo.slabBytes)); err != nil {
			r.setBlocks(i, blocksGone)
			return err
		}
	}
	r.setBlocks(i, blocksThere)
	return nil
}

// setBlocks records the blocks of slab i, which is free and can be allocated.
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

// unsure returns the number of free slabs whose blocks are not known.
func (r *Region) unsure() int { return r.freeSlabs - r.sureSlabs - r.goneSlabs }

// backTries bounds the slabs in a row for which blocks are asked of a full file system, because
// other callers wait meanwhile.
const backTries = 256

// errNoBlocks is the error of a caller that is not urgent, while the reserve still searches for
// slabs with blocks.
var errNoBlocks = fmt.Errorf("%w: %d free slabs in a row got no blocks", ErrFull, backTries)

// secure makes sure that the reserve, and one more slab for the caller, consist of slabs with
// blocks, by asking Allocate for slabs whose blocks are not known. It returns false if that needs
// further calls. It begins at the end of the device, where an opening finds slabs that kept their
// blocks, because TakeDiscardable begins at the front.
func (r *Region) secure() bool {
	for range backTries {
		if r.sureSlabs > r.keep(KindRecord, false) || r.unsure() == 0 || r.readOnly {
			return true
		}
		i := r.lastUnsure()
		if i == none {
			return true
		}
		if err := r.back(int(i)); err != nil && !errors.Is(err, ErrFull) {
			return true // the caller that takes the slab gets the error
		}
	}
	return false
}

// sure returns how many free slabs certainly have blocks. A region that writes nothing needs none.
func (r *Region) sure() int {
	if r.readOnly {
		return r.freeSlabs
	}
	return r.sureSlabs
}

// lastUnsure returns the next free slab downwards whose blocks are not known, or none.
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

// have gives free slab i blocks for the caller. The caller must leave keep slabs that certainly
// have blocks.
func (r *Region) have(i int32, keep int) error {
	if r.slabs[i].blocks == blocksThere && r.sureSlabs <= keep && r.sureSlabs < r.freeSlabs {
		return fmt.Errorf("%w: the last %d slabs with blocks are kept", ErrFull, keep)
	}
	return r.back(int(i))
}

// haveOther returns another free slab if the next one cannot be had: one that has blocks, if the
// caller may take it, or one that gets them.
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

// freeWith returns the next free slab whose blocks are in state b, or none.
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

// DiscardMost bounds the stretch that TakeDiscardable returns, in slabs. A file system needs some
// time to give back the blocks of each slab.
const DiscardMost = 64

// Discardable returns the bytes of free slabs whose blocks may be given back: those beyond the
// reserve and a stock for coming writes.
func (r *Region) Discardable() int64 {
	return int64(max(0, r.freeSlabs-r.goneSlabs-r.stock())) * int64(r.geo.slabBytes)
}

// stock returns the number of free slabs that keep their blocks: the reserve and a sixteenth of the
// slabs in use, at least stockSlabs.
func (r *Region) stock() int {
	return r.reserve + max(stockSlabs, (len(r.slabs)-r.freeSlabs)/16)
}

const stockSlabs = 12

// TakeDiscardable withdraws a stretch of free slabs from allocation (A10). All of them have been
// free since before the freeze of a checkpoint that has flipped; flipped is its interval. It
// searches from slab from on, and returns the slab at which to continue. length is 0 if there is
// none. The caller calls Discard, which needs no turn, and then GiveDiscarded.
func (r *Region) TakeDiscardable(from int, flipped uint64) (first, length, next int) {
	if r.readOnly || r.Discardable() == 0 && !r.off.has(ruleA10) {
		return 0, 0, len(r.slabs)
	}
	most := min(DiscardMost, int(r.Discardable()/int64(r.geo.slabBytes)))
	if r.off.has(ruleA10) {
		most = DiscardMost
	}
	i := max(from, 0)
	for ; i < len(r.slabs) && length < most; i++ {
		s := &r.slabs[i]
		may := r.isFree(i) && s.blocks != blocksGone && s.freed < flipped
		if r.off.has(ruleA10) && s.kind == KindRecord && s.liveN == 0 {
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

// Discard gives back the blocks of a stretch that TakeDiscardable returned. It may run concurrently
// with all other methods.
func (r *Region) Discard(first, length int) error {
	return r.m.Discard(r.geo.slabOff(first), int64(length)*int64(r.geo.slabBytes))
}

// GiveDiscarded makes such a stretch available again. gone says whether its blocks may be gone.
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

// tailSlabs returns the number of slabs that remain if free groups are cut off the end. The first
// group always stays.
func (r *Region) tailSlabs() int {
	n := len(r.slabs)
	for n > r.geo.groupSlabs {
		first := (n - 1) &^ (r.geo.groupSlabs - 1)
		for i := first; i < n; i++ {
			if !r.geo.isMeta(i) && !r.canBeCut(&r.slabs[i]) {
				return n
			}
		}
		n = first
	}
	return n
}

// canBeCut reports whether a slab is free, has no map that counts, and has no mark of this
// interval. Beyond the size word such a mark would show that the medium lost a write (lookBehind).
func (r *Region) canBeCut(s *slab) bool {
	return s.kind == KindFree && s.adds == 0 && s.touched < r.interval && s.mark < r.interval
}

// Truncate cuts free groups off the end of the device, if the device supports that, and returns the
// number of bytes cut. Call it when closing: nothing reads or writes any more, and in the last
// checkpoint, which has flipped, those groups are empty. A12: the size word names fewer slabs,
// fenced, before the device is cut.
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
	if r.off.has(ruleA12) {
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
	r.size()
	return cut, nil
}
