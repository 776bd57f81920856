package alloc

// Sparse slabs can be emptied: their owner moves the used slots to other slabs of the same list,
// and the slab becomes free, for any class and for the file system. Until then such a slab is a
// victim: it is on no list, and no slot is taken from it. Contents that do not move, such as old
// versions for snapshots and tombstones, are freed in the usual way.

// sparseBuckets is the first bucket whose slabs are worth emptying: a free quarter pays for moving
// three quarters.
const sparseBuckets = 2

// SetThrifty says whether slabs of which an eighth is free are worth emptying too, and
// are filled before a free one is carved: a store that is full has nothing to spare.
func (r *Region) SetThrifty(on bool) { r.thrifty = on }

// sparseFrom is the first bucket worth emptying.
func (r *Region) sparseFrom() int {
	if r.thrifty {
		return sparseBuckets - 1
	}
	return sparseBuckets
}

// usage counts the slabs of a kind.
type usage struct {
	slabs int
	used  int64 // bytes in used slots
	live  int64 // bytes in live slots
}

// Waste returns the bytes of the slabs of a kind that are not handed out.
func (r *Region) Waste(k Kind) int64 {
	u := &r.space[k]
	return int64(u.slabs)*int64(r.geo.slabBytes) - u.used
}

// Backed returns the bytes of usable slabs that have blocks behind them.
func (r *Region) Backed() int64 { return int64(r.usable-r.goneSlabs) * int64(r.geo.slabBytes) }

// Used returns the bytes that are handed out.
func (r *Region) Used() (n int64) {
	for i := range r.space {
		n += r.space[i].used
	}
	return n
}

// Live returns the bytes that the index reaches.
func (r *Region) Live() (n int64) {
	for i := range r.space {
		n += r.space[i].live
	}
	return n
}

// UsedIn returns the bytes of the slabs of a kind that are handed out.
func (r *Region) UsedIn(k Kind) int64 { return r.space[k].used }

// LiveIn returns the bytes of the slabs of a kind that the index reaches.
func (r *Region) LiveIn(k Kind) int64 { return r.space[k].live }

// TakeSparse makes the emptiest record slab a victim and returns its number. It returns false if
// emptying another slab would free none, because its used slots must fit the free slots of the
// sparse slabs of its class.
func (r *Region) TakeSparse() (slab int, ok bool) {
	best := int32(none)
	for c := range r.table.size {
		l := &r.lists[r.listOf(KindRecord, ClassID(c))]
		i := l.emptiest(r.sparseFrom())
		if i != none && r.pays(l, i) && (best == none || r.fill(i) < r.fill(best)) {
			best = i
		}
	}
	if best == none {
		return 0, false
	}
	r.makeVictim(best)
	return int(best), true
}

// fill returns the used part of a slab, in 1/256.
func (r *Region) fill(i int32) int32 {
	s := &r.slabs[i]
	return s.usedN << 8 / s.slots
}

// pays reports whether the other slabs that new slots would come from have room for the used slots
// of slab i.
func (r *Region) pays(l *lists, i int32) bool {
	need := r.slabs[i].usedN
	if c := l.cur; c != none {
		need -= r.slabs[c].slots - r.slabs[c].usedN
	}
	for b := buckets - 1; b >= r.preferFrom(KindRecord, r.slabs[i].class); b-- {
		for j := l.head[b]; j != none && need > 0; j = r.slabs[j].next {
			if j != i {
				need -= r.slabs[j].slots - r.slabs[j].usedN
			}
		}
	}
	return need <= 0
}

func (r *Region) makeVictim(i int32) {
	r.delist(i)
	r.slabs[i].victim = true
	r.victims = append(r.victims, i)
}

// TakeSparseOf makes the emptiest slabs of a kind victims, as many as the others have room for, and
// returns their number. It is for kinds whose slots are moved in index order, in one pass for all
// victims.
func (r *Region) TakeSparseOf(k Kind) (n int) {
	l := &r.lists[r.listOf(k, 0)]
	var sparse []int32
	room := int32(0)
	for b := buckets - 1; b >= r.sparseFrom(); b-- {
		for i := l.head[b]; i != none; i = r.slabs[i].next {
			sparse = append(sparse, i)
			room += r.slabs[i].slots - r.slabs[i].usedN
		}
	}
	if c := l.cur; c != none {
		room += r.slabs[c].slots - r.slabs[c].usedN
	}
	for _, i := range sparse { // the emptiest first
		s := &r.slabs[i]
		room -= s.slots // a victim offers no room, and its used slots need some
		if room < 0 {
			break
		}
		r.makeVictim(i)
		n++
	}
	return n
}

// TakePartial makes victims of all sparse record slabs and of the current ones. New slots then lie
// slab by slab in the order of allocation, as long as there are free slabs.
func (r *Region) TakePartial() {
	for c := range r.table.size {
		l := &r.lists[r.listOf(KindRecord, ClassID(c))]
		if i := l.cur; i != none {
			l.cur = none
			if r.slabs[i].usedN == 0 {
				r.emptied(i)
			} else {
				r.makeVictim(i)
			}
		}
		for b := sparseBuckets; b < buckets; b++ {
			for l.head[b] != none {
				r.makeVictim(l.head[b])
			}
		}
	}
}

// TakeTail makes victims of all slabs beyond the size that the used slabs and a stock need, if at
// least a group lies beyond it. It reports whether it did. Later allocations come from the
// beginning of the device.
func (r *Region) TakeTail() bool {
	used := len(r.slabs) - r.freeSlabs // metadata included
	keep := roundUp(used+used/64+r.reserve+stockSlabs, r.geo.groupSlabs)
	if r.tailSlabs() <= keep {
		return false
	}
	for i := keep; i < len(r.slabs); i++ {
		s := &r.slabs[i]
		if r.geo.isMeta(i) || s.kind == KindFree || s.victim {
			continue
		}
		if l := &r.lists[r.listOf(s.kind, s.class)]; l.cur == int32(i) {
			l.cur = none
			if s.usedN == 0 {
				r.emptied(int32(i))
				continue
			}
		}
		r.makeVictim(int32(i))
	}
	r.freeHint, r.lastExtent = 0, 0
	for e := r.extentOf(keep); e < len(r.extents); e++ {
		r.setGathering(e, false) // gather index slabs elsewhere from now on
	}
	return true
}

// IsVictim reports whether o lies in a slab that is being emptied.
func (r *Region) IsVictim(o Off) bool {
	if o < Off(r.geo.superBytes) {
		return false
	}
	i := r.geo.slabOf(o)
	return i < len(r.slabs) && r.slabs[i].victim
}

// ReleaseVictims turns the remaining victims into ordinary slabs again.
func (r *Region) ReleaseVictims() {
	for _, i := range r.victims {
		s := &r.slabs[i]
		if !s.victim {
			continue
		}
		s.victim = false
		if s.usedN == 0 {
			r.emptied(i)
		} else {
			r.enlist(i)
		}
	}
	r.victims = r.victims[:0]
}

// LiveSlots appends to dst up to most live slots of a record slab, beginning with slot from. It
// returns the slot at which to continue, or a negative number at the end.
func (r *Region) LiveSlots(slab, from, most int, dst []Off) (out []Off, next int) {
	s := &r.slabs[slab]
	if s.kind != KindRecord {
		return dst, none
	}
	size := r.slotBytesOf(s)
	for n := int32(from); n < s.slots; n++ {
		if !has(s.live, n) {
			continue
		}
		if most == 0 {
			return dst, int(n)
		}
		most--
		dst = append(dst, r.geo.slabOff(slab)+Off(int(n)*size))
	}
	return dst, none
}

// SlotNumber returns the number of the slot at o within its slab. It panics if o is no slot.
func (r *Region) SlotNumber(o Off) int {
	_, n := r.mustSlot(o)
	return int(n)
}

// ClassOf returns the class of the record slot at o. It returns false if there is none.
func (r *Region) ClassOf(o Off) (ClassID, bool) {
	i, _, err := r.slotOf(o)
	if err != nil || r.slabs[i].kind != KindRecord {
		return 0, false
	}
	return r.slabs[i].class, true
}
