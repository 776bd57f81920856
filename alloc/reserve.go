package alloc

import (
	"errors"
	"fmt"

	"nvkv/nvmap"
)

// Need gives the size of the room that a full region keeps for callers that give space back, the
// urgent ones: a number of pages, of blocks, and of slabs for records and runs. Other callers are refused before the kept room would
// be used. The kept room lies in free slabs to the extent that index slabs lack free pages and
// blocks. It is counted; no slab is set aside.
//
// Urgent callers take from it in steps. After each step a checkpoint restores it: the checkpoint
// frees the pages and blocks that the step replaced, and the records and runs that it wrote. For
// this to hold,
//
//   - a slab that an urgent caller carves for records or runs, while others are refused one, is
//     kept: its other slots are for urgent callers too, so that the slab is free again when their
//     records go;
//   - an urgent caller carves no slab that the other kinds would lack once that checkpoint has
//     freed the slots that are used and not live.
//
// The need may grow when a full region has nothing to add. Then other callers are refused until
// there is as much as is needed, and urgent callers keep for each other what there is.
//
// A13. Only callers that give space back take a page, a block, a slot or a slab of the kept room,
// and after a checkpoint there is as much of it as before.
type Need struct {
	Pages, Blocks int // pages and blocks of the largest step
	RecordBytes   int // bytes of its records, which may be of several classes
	RunPages      int // pages for its records that do not fit slots
}

// SetNeed sets the room to keep. The caller calls it again when the need grows.
func (r *Region) SetNeed(n Need) {
	r.need = n
	r.size()
}

// kept is the room that a full region keeps.
type kept struct {
	pages, blocks int64 // slots
	slabs         int   // for records and runs
}

const (
	// One extraPart-th of the slabs in use, at most extraBytes, is kept beyond a single step, so
	// that one checkpoint serves many steps.
	extraPart  = 64
	extraBytes = 32 << 20
	// At most one keptPart-th of a small device is kept, but at least minKept slabs.
	keptPart = 8
	minKept  = 4
)

// size computes the room to keep from the number of slabs in use.
func (r *Region) size() {
	if r.need == (Need{}) { // a user without an index
		r.kept = kept{slabs: minKept}
		r.held, r.reserve = r.kept, minKept
		return
	}
	extra := min((r.usable-r.freeSlabs)/extraPart, extraBytes/r.geo.slabBytes)
	r.kept = r.keptFor(extra, 0)
	r.reserve = slabsFor(r.kept.pages, r.slabPages()) + slabsFor(r.kept.blocks, r.slabBlocks()) + r.kept.slabs
	r.held = r.kept
	for extra > 0 && !r.provides(r.held) {
		extra--
		r.held = r.keptFor(extra, 0)
	}
	for less := 1; less < r.need.Blocks && !r.provides(r.held); less++ {
		r.held = r.keptFor(0, less)
	}
}

// keptFor returns the room to keep with extra slabs beyond a single step, for a step that changes
// less leaves fewer than r.need says.
func (r *Region) keptFor(extra, less int) kept {
	perPage, perBlock := r.slabPages(), r.slabBlocks()
	k := kept{
		pages:  int64(max(1, r.need.Pages-less*5/4)) + int64(extra)*perPage*3/4,
		blocks: int64(max(1, r.need.Blocks-less)) + int64(extra)*perBlock*3/16,
		slabs:  r.recordSlabs() + extra/16,
	}
	most := max(minKept, r.geo.slabsIn(r.m.Device().Info().MaxBytes)/keptPart)
	if blocks := max(1, most/4); slabsFor(k.blocks, perBlock) > blocks {
		k.blocks = int64(blocks) * perBlock
	}
	least := 1
	if r.need.RunPages > 0 {
		least = 2
	}
	k.slabs = min(k.slabs, max(least, most/4))
	if pages := most - k.slabs - slabsFor(k.blocks, perBlock); slabsFor(k.pages, perPage) > pages {
		k.pages = int64(pages) * perPage
	}
	return k
}

// provides says whether the region has all of k, once a checkpoint has freed what is used and not
// live.
func (r *Region) provides(k kept) bool {
	return r.lacking(KindPage, k)+r.lacking(KindBlock, k)+k.slabs <= r.freeSlabs+r.keptSlabs
}

// recordSlabs returns how many slabs records and runs of the largest step take.
func (r *Region) recordSlabs() int {
	records := max(1, slabsFor(int64(r.need.RecordBytes), int64(r.geo.slabBytes)))
	return records + slabsFor(int64(r.need.RunPages), r.slabPages())
}

func (r *Region) slabBlocks() int64 { return int64(r.geo.slabBytes / BlockBytes) }

// slabsFor returns the number of slabs that hold n slots, with perSlab slots each.
func slabsFor(n, perSlab int64) int { return int(max(0, n+perSlab-1) / perSlab) }

// missing returns how many slabs kind k needs in addition to hold its kept room and more slots to
// be handed out now.
func (r *Region) missing(k Kind, more int64) int {
	return r.slabsBeyond(k, r.kept, more, r.space[k].used)
}

// lacking returns how many slabs kind k needs in addition to hold its part of room. It counts slots
// that a checkpoint will free as free.
func (r *Region) lacking(k Kind, room kept) int {
	return r.slabsBeyond(k, room, 0, r.space[k].live)
}

// slabsBeyond returns how many slabs kind k needs beyond its own to hold its part of room and more
// slots, where taken bytes of its slabs are not free.
func (r *Region) slabsBeyond(k Kind, room kept, more, taken int64) int {
	slabs := int64(r.space[k].slabs)
	switch k {
	case KindPage:
		return slabsFor(room.pages+more-(slabs*r.slabPages()-taken/nvmap.PageBytes), r.slabPages())
	case KindBlock:
		return slabsFor(room.blocks+more-(slabs*r.slabBlocks()-taken/BlockBytes), r.slabBlocks())
	}
	return 0
}

// missingSlabs is missing for records and runs.
func (r *Region) missingSlabs() int { return max(0, r.kept.slabs-r.keptSlabs) }

// keep returns how many free slabs must remain when one is carved for a slot of kind k.
func (r *Region) keep(k Kind, urgent bool) int {
	if urgent {
		return r.keepUrgent(k)
	}
	pages, blocks := int64(0), int64(0)
	switch k { // the carved slab has room for more than this slot
	case KindPage:
		pages = 1 - r.slabPages()
	case KindBlock:
		blocks = 1 - r.slabBlocks()
	}
	return r.missing(KindPage, pages) + r.missing(KindBlock, blocks) + r.missingSlabs()
}

func (r *Region) keepUrgent(k Kind) (n int) {
	if r.need == (Need{}) { // a recovery: it cannot take a checkpoint
		return 0
	}
	for _, other := range [...]Kind{KindPage, KindBlock} {
		if k != other {
			n += r.lacking(other, r.held)
		}
	}
	if isIndex(k) {
		n += max(0, r.held.slabs-r.keptSlabs)
	}
	return n
}

// Unreserved returns the number of free slabs beyond the kept room.
func (r *Region) Unreserved() int { return r.freeSlabs - r.keep(KindRecord, false) }

// spares returns nil if a page or block can be handed out, from a slab with a free one, to a caller
// that is not urgent. It grows the device if necessary. Slots that urgent callers took count as
// missing until a checkpoint restores them.
func (r *Region) spares(k Kind) error {
	if r.freeSlabs > r.reserve && r.sure() > r.reserve {
		return nil
	}
	pages, blocks := int64(1), int64(0)
	if k == KindBlock {
		pages, blocks = 0, 1
	}
	keep := r.missing(KindPage, pages) + r.missing(KindBlock, blocks) + r.missingSlabs()
	if !r.secure() {
		return errNoBlocks
	}
	if min(r.freeSlabs, r.sure()) >= keep {
		return nil
	}
	return r.grow(max(1, keep-r.freeSlabs))
}

// allocKept hands out a slot of a kept slab.
func (r *Region) allocKept(c ClassID) (Off, error) {
	if err := r.refusal.next(); err != nil {
		return 0, err
	}
	l := &r.keptLists[r.listOf(KindRecord, c)]
	i := l.emptiest(0)
	if i == none {
		var err error
		if i, err = r.carveKept(KindRecord, c); err != nil {
			return 0, err
		}
	}
	s := &r.slabs[i]
	n := s.nextFree(0)
	r.use(s, n)
	r.wear[int(i)>>r.geo.groupShift] += uint64(r.slotBytesOf(s))
	r.relist(i)
	r.audits.slab(r, i)
	return r.geo.slabOff(int(i)) + Off(int(n)*r.slotBytesOf(s)), nil
}

func (r *Region) carveKept(k Kind, c ClassID) (int32, error) {
	i, err := r.takeFree(k, true)
	if err != nil {
		return none, err
	}
	if err := r.carve(i, k, c); err != nil {
		return none, err
	}
	r.slabs[i].kept = true
	r.keptSlabs++
	r.enlist(i)
	return i, nil
}

// AllocRunsUrgent is AllocRuns for urgent callers. The kept room provides runs of a few pages.
func (r *Region) AllocRunsUrgent(n int64, maxExtents int) ([]Extent, error) {
	out, err := r.AllocRuns(n, maxExtents)
	if !errors.Is(err, ErrFull) {
		return out, err
	}
	for left := pagesOf(n); left > 0; {
		e, err := r.allocKeptPages(int32(min(left, r.slabPages())))
		if err == nil && len(out) == maxExtents {
			err = fmt.Errorf("%w: no %d extents hold %d bytes", ErrFull, maxExtents, n)
		}
		if err != nil {
			for _, e := range out {
				r.FreeRun(e)
			}
			return nil, err
		}
		out = append(out, e)
		left -= e.Bytes / nvmap.PageBytes
	}
	return out, nil
}

// allocKeptPages takes up to n adjacent pages of a kept slab.
func (r *Region) allocKeptPages(n int32) (Extent, error) {
	if err := r.refusal.next(); err != nil {
		return Extent{}, err
	}
	l := &r.keptLists[r.listOf(KindRun, 0)]
	i := l.emptiest(0)
	if i == none {
		var err error
		if i, err = r.carveKept(KindRun, 0); err != nil {
			return Extent{}, err
		}
	}
	s := &r.slabs[i]
	first := s.nextFree(0)
	last := first + 1
	for last < s.slots && last-first < n && !has(s.used, last) {
		last++
	}
	return r.takePages(i, first, last-first), nil
}

// keepRecovered marks as kept the slabs with used records of which the index reaches none: slabs
// with tombstones that a recovery found.
func (r *Region) keepRecovered() {
	for i := range r.slabs {
		if s := &r.slabs[i]; s.kind == KindRecord && s.usedN > 0 && s.liveN == 0 {
			r.delist(int32(i))
			s.kept = true
			r.keptSlabs++
			r.enlist(int32(i))
		}
	}
}

// Kept returns the largest number of bytes, in whole slabs, that are kept for urgent callers.
func (r *Region) Kept() int64 { return int64(r.reserve) * int64(r.geo.slabBytes) }
