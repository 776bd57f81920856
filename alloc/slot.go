package alloc

import (
	"errors"
	"fmt"

	"nvkv/nvmap"
)

// ClassFor returns the record class for n bytes. It returns false if n exceeds LargestSlot.
func (r *Region) ClassFor(n int) (ClassID, bool) { return r.table.of(n) }

// LargestSlot returns the largest record slot in bytes. Larger records go into runs.
func (r *Region) LargestSlot() int { return r.table.largest() }

// SlotBytes returns the slot size of a record class in bytes.
func (r *Region) SlotBytes(c ClassID) int { return r.table.size[c] }

// AllocRecord hands out a slot of class c. The slot is used from now on, and live after SetLive. An
// urgent caller gives space back and never makes the slot live; it may take from the kept room, and
// it gets a slot of a larger class if there is none of class c. The error is ErrFull if there is no
// room.
func (r *Region) AllocRecord(c ClassID, urgent bool) (Off, error) {
	if urgent && r.keptLists[c].emptiest(0) != none {
		return r.allocKept(c)
	}
	o, err := r.alloc(KindRecord, c, false)
	if urgent && errors.Is(err, ErrFull) {
		if o, err = r.allocKept(c); errors.Is(err, ErrFull) {
			return r.allocLarger(c, err)
		}
	}
	return o, err
}

// allocLarger hands out a slot of the next class above c that has a free one. Otherwise it returns
// why, the reason that there was none of class c.
func (r *Region) allocLarger(c ClassID, why error) (Off, error) {
	for c++; int(c) < len(r.table.size); c++ {
		if r.keptLists[c].emptiest(0) != none {
			return r.allocKept(c)
		}
		if r.lists[c].emptiest(0) != none {
			return r.alloc(KindRecord, c, false)
		}
	}
	return 0, why
}

// AllocPage hands out an index page. urgent is as for AllocRecord, but the page may become live.
func (r *Region) AllocPage(urgent bool) (nvmap.PageID, error) {
	o, err := r.alloc(KindPage, 0, urgent)
	return o.Page(), err
}

// AllocBlock hands out an index block of BlockBytes. urgent is as for AllocPage.
func (r *Region) AllocBlock(urgent bool) (Off, error) { return r.alloc(KindBlock, 0, urgent) }

func (r *Region) alloc(k Kind, c ClassID, urgent bool) (Off, error) {
	if err := r.refusal.next(); err != nil {
		return 0, err
	}
	l := &r.lists[r.listOf(k, c)]
	for {
		if i := l.cur; i != none {
			s := &r.slabs[i]
			if n := s.nextFree(s.cursor); n != none {
				if !urgent && k != KindRecord {
					if err := r.spares(k); err != nil {
						return 0, err
					}
					s = &r.slabs[i] // the slice may have grown
				}
				s.cursor = n + 1
				r.use(s, n)
				r.wear[int(i)>>r.geo.groupShift] += uint64(r.slotBytesOf(s))
				r.audits.slab(r, i)
				return r.geo.slabOff(int(i)) + Off(int(n)*r.slotBytesOf(s)), nil
			}
		}
		if err := r.pick(k, c, urgent); err != nil {
			return 0, err
		}
	}
}

func (r *Region) use(s *slab, n int32) {
	set(s.used, n)
	s.usedN++
	r.space[s.kind].used += int64(r.slotBytesOf(s))
}

// slotOf returns the slab and slot number of o. It returns an error if o is not the beginning of a
// slot of a carved slab: offsets may come from the medium.
func (r *Region) slotOf(o Off) (int32, int32, error) {
	if o < Off(r.geo.superBytes) || o >= r.geo.slabOff(len(r.slabs)) {
		return 0, 0, corruptAt(o, "reference, outside all slabs,")
	}
	i := r.geo.slabOf(o)
	s := &r.slabs[i]
	if s.kind == KindFree || r.geo.isMeta(i) {
		return 0, 0, corruptAt(o, "reference into a free slab")
	}
	within := uint32(o - r.geo.slabOff(i)) // under 1 MiB
	size := uint32(r.slotBytesOf(s))
	n := within / size
	if n*size != within || int32(n) >= s.slots {
		return 0, 0, corruptAt(o, fmt.Sprintf("reference to what is no slot of %d bytes", size))
	}
	return int32(i), int32(n), nil
}

// mustSlot is slotOf for offsets that this process found in its maps. It panics with the
// *CorruptError: that happens only if the program has a bug.
func (r *Region) mustSlot(o Off) (int32, int32) {
	i, n, err := r.slotOf(o)
	if err != nil {
		panic(err)
	}
	return i, n
}

// Free takes a slot, page or block back. It may be handed out again at once, so the caller ensures
// that nothing reaches it any more. Free changes nothing and returns a *CorruptError if o is no
// slot that is used and not live: then the medium named it wrongly.
func (r *Region) Free(o Off) error {
	i, n, err := r.slotOf(o)
	if err != nil {
		return err
	}
	return r.freeSlot(o, i, n)
}

// freeSlot is Free for the slot n of slab i.
func (r *Region) freeSlot(o Off, i, n int32) error {
	s := &r.slabs[i]
	if !has(s.used, n) {
		return corruptAt(o, "slot, freed twice,")
	}
	if has(s.live, n) {
		return corruptAt(o, "slot, freed while the index reaches it,")
	}
	clear1(s.used, n)
	s.usedN--
	r.space[s.kind].used -= int64(r.slotBytesOf(s))
	r.afterFree(i)
	return nil
}

// Return is Free for a slot, page or block that was not written since it was handed out. The next
// allocation may use it again.
func (r *Region) Return(o Off) error {
	i, n, err := r.slotOf(o)
	if err == nil {
		err = r.freeSlot(o, i, n)
	}
	if err != nil {
		return err
	}
	s := &r.slabs[i]
	s.cursor = min(s.cursor, n)
	r.wear[int(i)>>r.geo.groupShift] -= uint64(r.slotBytesOf(s))
	return nil
}

// ReleaseEmpty makes current slabs without used slots free again. A refused commit may leave some.
func (r *Region) ReleaseEmpty() {
	for n := range r.lists {
		l := &r.lists[n]
		if i := l.cur; i != none && r.slabs[i].usedN == 0 {
			l.cur = none
			r.emptied(i)
		}
	}
}

func (r *Region) afterFree(i int32) {
	s := &r.slabs[i]
	if s.usedN == 0 {
		r.emptied(i)
	} else if r.listsOf(s).cur != i && !s.victim {
		r.relist(i)
	}
	r.audits.slab(r, i)
}

// SetLive says that the index reaches o from now on. Where o is no slot it returns a
// *CorruptError.
func (r *Region) SetLive(o Off) error {
	i, n, err := r.slotOf(o)
	if err == nil {
		r.setLive(i, n)
	}
	return err
}

func (r *Region) setLive(i, n int32) {
	s := &r.slabs[i]
	if !has(s.live, n) {
		set(s.live, n)
		s.liveN++
		r.markDirty(i)
		r.space[s.kind].live += int64(r.slotBytesOf(s))
		r.audits.slab(r, i)
	}
}

// ClearLive says that the index does not reach o any more. The slot stays used until Free.
// If o is no slot, ClearLive returns a *CorruptError.
func (r *Region) ClearLive(o Off) error {
	i, n, err := r.slotOf(o)
	if err == nil {
		r.clearLive(i, n)
	}
	return err
}

// ClearAndFree is ClearLive and Free.
func (r *Region) ClearAndFree(o Off) error {
	i, n, err := r.slotOf(o)
	if err != nil {
		return err
	}
	r.clearLive(i, n)
	return r.freeSlot(o, i, n)
}

func (r *Region) clearLive(i, n int32) {
	s := &r.slabs[i]
	if has(s.live, n) {
		clear1(s.live, n)
		s.liveN--
		r.markDirty(i)
		r.space[s.kind].live -= int64(r.slotBytesOf(s))
		r.audits.slab(r, i)
	}
}

// IsUsed reports whether o is a slot that is handed out. It returns false if o is no slot at all.
func (r *Region) IsUsed(o Off) bool {
	i, n, err := r.slotOf(o)
	return err == nil && has(r.slabs[i].used, n)
}

// IsLive reports whether o is a slot that the index reaches.
func (r *Region) IsLive(o Off) bool {
	i, n, err := r.slotOf(o)
	return err == nil && has(r.slabs[i].live, n)
}

// Carve returns the carve number of the slab of o and its slot size. It returns false if o is not a
// slot of the given kind. It may be called during recovery.
func (r *Region) Carve(o Off, k Kind) (carve uint32, slotBytes int, ok bool) {
	i, _, err := r.slotOf(o)
	if err != nil || r.slabs[i].kind != k {
		return 0, 0, false
	}
	return r.slabs[i].carve, r.slotBytesOf(&r.slabs[i]), true
}

// The methods from here to UnclaimLive are for recovery only. They change single slabs, and no sum,
// because Ready computes the sums afterwards. So several goroutines may call them for slots of
// different slabs.

// Claim makes o used without an allocation. It fails if o is no slot of kind k or is used already.
func (r *Region) Claim(o Off, k Kind) error {
	i, n, err := r.claimable(o, k)
	if err != nil {
		return err
	}
	s := &r.slabs[i]
	if has(s.used, n) {
		return corruptAt(o, "slot, owned twice,")
	}
	set(s.used, n)
	s.usedN++
	return nil
}

// Retake makes o used and not live, whatever the map of the checkpoint says, because a record was
// written into it since.
func (r *Region) Retake(o Off, k Kind) error {
	i, n, err := r.claimable(o, k)
	if err != nil {
		return err
	}
	r.slabs[i].take(n)
	r.unreach(i, n)
	return nil
}

// ClaimLive makes o used and live.
func (r *Region) ClaimLive(o Off, k Kind) error {
	i, n, err := r.claimable(o, k)
	if err != nil {
		return err
	}
	s := &r.slabs[i]
	s.take(n)
	if !has(s.live, n) {
		set(s.live, n)
		s.liveN++
		r.markDirty(i)
	}
	return nil
}

func (r *Region) claimable(o Off, k Kind) (i, n int32, err error) {
	i, n, err = r.slotOf(o)
	if err == nil && r.slabs[i].kind != k {
		err = corruptAt(o, fmt.Sprintf("reference into a slab of kind %v, not %v,", r.slabs[i].kind, k))
	}
	return i, n, err
}

func (s *slab) take(n int32) {
	if !has(s.used, n) {
		set(s.used, n)
		s.usedN++
	}
}

func (r *Region) unreach(i, n int32) {
	s := &r.slabs[i]
	if has(s.live, n) {
		clear1(s.live, n)
		s.liveN--
		r.markDirty(i)
	}
}

// Unclaim is the inverse of Claim: replay has replaced the record in o.
func (r *Region) Unclaim(o Off) {
	i, n, err := r.slotOf(o)
	if err != nil || !has(r.slabs[i].used, n) {
		return
	}
	r.unreach(i, n)
	s := &r.slabs[i]
	clear1(s.used, n)
	s.usedN--
}

// UnclaimLive is Unclaim for a live slot. It does nothing if o is not live.
func (r *Region) UnclaimLive(o Off) {
	i, n, err := r.slotOf(o)
	if err != nil || !has(r.slabs[i].live, n) {
		return
	}
	r.unreach(i, n)
	s := &r.slabs[i]
	clear1(s.used, n)
	s.usedN--
}

// EachUsed calls fn for every slot that is handed out, in address order.
func (r *Region) EachUsed(fn func(o Off, k Kind, live bool)) {
	for i := range r.slabs {
		s := &r.slabs[i]
		if s.kind == KindFree || r.geo.isMeta(i) {
			continue
		}
		size := r.slotBytesOf(s)
		for n := range s.slots {
			if has(s.used, n) {
				fn(r.geo.slabOff(i)+Off(int(n)*size), s.kind, has(s.live, n))
			}
		}
	}
}
