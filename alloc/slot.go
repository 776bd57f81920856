package alloc

import (
	"fmt"

	"nvkv/nvmap"
)

// ClassFor returns the record class for n bytes; false where n is over
// LargestSlot.
func (r *Region) ClassFor(n int) (ClassID, bool) { return r.table.of(n) }

// LargestSlot returns the biggest record slot in bytes. What is larger goes
// into runs.
func (r *Region) LargestSlot() int { return r.table.largest() }

// SlotBytes returns the slot size of a record class.
func (r *Region) SlotBytes(c ClassID) int { return r.table.size[c] }

// AllocRecord hands out a slot of class c. The slot is used from now on, and
// live once SetLive says so. urgent callers may take from the reserve.
func (r *Region) AllocRecord(c ClassID, urgent bool) (Off, error) {
	return r.alloc(KindRecord, c, urgent)
}

// AllocPage hands out an index page.
func (r *Region) AllocPage(urgent bool) (nvmap.PageID, error) {
	o, err := r.alloc(KindPage, 0, urgent)
	return o.Page(), err
}

// AllocBlock hands out an index block of BlockBytes.
func (r *Region) AllocBlock(urgent bool) (Off, error) { return r.alloc(KindBlock, 0, urgent) }

func (r *Region) alloc(k Kind, c ClassID, urgent bool) (Off, error) {
	l := &r.lists[r.listOf(k, c)]
	for {
		if i := l.cur; i != none {
			s := &r.slabs[i]
			if n := s.nextFree(s.cursor); n != none {
				s.cursor = n + 1
				r.use(s, n)
				r.wear[int(i)>>r.geo.groupShift] += uint64(r.slotBytesOf(s))
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

// slotOf returns the slab and slot number of o, or an error when o is not the
// beginning of a slot of a carved slab: offsets come from the medium.
func (r *Region) slotOf(o Off) (int32, int32, error) {
	if o < Off(r.geo.superBytes) || o >= r.geo.slabOff(len(r.slabs)) {
		return 0, 0, fmt.Errorf("%w: offset %#x lies outside all slabs", ErrCorrupt, uint64(o))
	}
	i := r.geo.slabOf(o)
	s := &r.slabs[i]
	if s.kind == KindFree || r.geo.isMeta(i) {
		return 0, 0, fmt.Errorf("%w: offset %#x lies in a free slab", ErrCorrupt, uint64(o))
	}
	within := uint32(o - r.geo.slabOff(i)) // under 1 MiB
	size := uint32(r.slotBytesOf(s))
	n := within / size
	if n*size != within || int32(n) >= s.slots {
		return 0, 0, fmt.Errorf("%w: offset %#x is no slot of %d bytes", ErrCorrupt, uint64(o), size)
	}
	return int32(i), int32(n), nil
}

// mustSlot is slotOf for offsets that this process handed out.
func (r *Region) mustSlot(o Off) (int32, int32) {
	i, n, err := r.slotOf(o)
	if err != nil {
		panic("alloc: " + err.Error())
	}
	return i, n
}

// Free takes a slot, page or block back. The next one handed out may be it: the
// caller proves that nobody can reach it any more.
func (r *Region) Free(o Off) {
	i, n := r.mustSlot(o)
	s := &r.slabs[i]
	if !has(s.used, n) {
		panic(fmt.Sprintf("alloc: %#x freed twice", uint64(o)))
	}
	if has(s.live, n) {
		panic(fmt.Sprintf("alloc: %#x freed while the index reaches it", uint64(o)))
	}
	clear1(s.used, n)
	s.usedN--
	r.space[s.kind].used -= int64(r.slotBytesOf(s))
	r.afterFree(i)
}

func (r *Region) afterFree(i int32) {
	s := &r.slabs[i]
	if s.usedN == 0 {
		r.emptied(i)
		return
	}
	if r.lists[r.listOf(s.kind, s.class)].cur != i && !s.victim {
		r.relist(i)
	}
}

// SetLive says that the index reaches o from now on.
func (r *Region) SetLive(o Off) {
	i, n := r.mustSlot(o)
	r.setLive(i, n)
}

func (r *Region) setLive(i, n int32) {
	s := &r.slabs[i]
	if !has(s.live, n) {
		set(s.live, n)
		s.liveN++
		r.markDirty(i)
		r.liveBytes += int64(r.slotBytesOf(s))
	}
}

// ClearLive says that the index does not reach o any more. It stays used until
// Free.
func (r *Region) ClearLive(o Off) {
	i, n := r.mustSlot(o)
	s := &r.slabs[i]
	if has(s.live, n) {
		clear1(s.live, n)
		s.liveN--
		r.markDirty(i)
		r.liveBytes -= int64(r.slotBytesOf(s))
	}
}

// IsUsed says whether o is a slot that is handed out; false also where o is no
// slot at all.
func (r *Region) IsUsed(o Off) bool {
	i, n, err := r.slotOf(o)
	return err == nil && has(r.slabs[i].used, n)
}

// IsLive says whether o is a slot that the index reaches.
func (r *Region) IsLive(o Off) bool {
	i, n, err := r.slotOf(o)
	return err == nil && has(r.slabs[i].live, n)
}

// Carve returns the carve number of the slab of o and its slot size; false
// where o is not a slot of the given kind. It may be called during recovery.
func (r *Region) Carve(o Off, k Kind) (carve uint32, slotBytes int, ok bool) {
	i, _, err := r.slotOf(o)
	if err != nil || r.slabs[i].kind != k {
		return 0, 0, false
	}
	return r.slabs[i].carve, r.slotBytesOf(&r.slabs[i]), true
}

// Recovery only. The methods from here to Unclaim change single slabs and none
// of the sums that Ready counts afterwards: goroutines may call them side by
// side for slots of different slabs.

// Claim makes o used, without an allocation. It fails where o is no slot of
// kind k or is used already.
func (r *Region) Claim(o Off, k Kind) error {
	i, n, err := r.claimable(o, k)
	if err != nil {
		return err
	}
	s := &r.slabs[i]
	if has(s.used, n) {
		return fmt.Errorf("%w: offset %#x is owned twice", ErrCorrupt, uint64(o))
	}
	set(s.used, n)
	s.usedN++
	return nil
}

// Retake makes o used and not live, whatever the map of the checkpoint says: a
// record was written into it since.
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
		err = fmt.Errorf("%w: offset %#x lies in a slab of kind %v, not %v", ErrCorrupt, uint64(o), r.slabs[i].kind, k)
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

// Unclaim is the inverse of Claim: replay displaced what o holds.
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

// UnclaimLive is Unclaim of a slot that is live; it leaves any other alone.
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
