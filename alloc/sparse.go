package alloc

// Slabs of which little is used can be emptied: their owner moves what is used
// to other slabs of the same list, and the slab becomes free, for any class and
// for the file system. Until then such a slab is a victim: it is on no list and
// nothing is taken from it. What it holds that does not move, snapshots' old
// versions and tombstones, goes in its own time.

// sparseBuckets and up are worth emptying: a quarter free pays for the moving of
// three quarters.
const sparseBuckets = 2

// usage of the slabs of a kind.
type usage struct {
	slabs int
	used  int64 // bytes in slots that are handed out
}

// Waste returns how many bytes of the slabs of a kind are not handed out.
func (r *Region) Waste(k Kind) int64 {
	u := &r.space[k]
	return int64(u.slabs)*int64(r.geo.slabBytes) - u.used
}

// Backed returns how many bytes there are of slabs that have blocks behind them.
func (r *Region) Backed() int64 { return int64(r.usable-r.goneSlabs) * int64(r.geo.slabBytes) }

// Used returns how many bytes are handed out.
func (r *Region) Used() (n int64) {
	for i := range r.space {
		n += r.space[i].used
	}
	return n
}

// Unreserved returns how many free slabs there are beyond the reserve.
func (r *Region) Unreserved() int { return r.freeSlabs - r.reserve }

// UsedIn returns how many bytes of the slabs of a kind are handed out.
func (r *Region) UsedIn(k Kind) int64 { return r.space[k].used }

// MovesFloor keeps half of the reserve from urgent callers while fn runs: those
// that move things to gain room must leave some to those that delete.
func (r *Region) MovesFloor(fn func() error) error {
	r.floor = reserveSlabs / 2
	defer func() { r.floor = 0 }()
	return fn()
}

// TakeSparse makes the emptiest record slab a victim and returns its number. It
// returns false when emptying another one would free none: what it holds must
// fit what the sparse slabs of its class have free.
func (r *Region) TakeSparse() (slab int, ok bool) {
	best := int32(none)
	for c := range r.table.size {
		l := &r.lists[r.listOf(KindRecord, ClassID(c))]
		i := l.emptiest(sparseBuckets)
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

// fill is the used part of a slab, in 1/256.
func (r *Region) fill(i int32) int32 {
	s := &r.slabs[i]
	return s.usedN << 8 / s.slots
}

// pays says whether the other slabs that new slots would come from can take
// what slab i holds.
func (r *Region) pays(l *lists, i int32) bool {
	need := r.slabs[i].usedN
	if c := l.cur; c != none {
		need -= r.slabs[c].slots - r.slabs[c].usedN
	}
	for b := buckets - 1; b >= preferBuckets; b-- {
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

// TakeSparseOf makes victims of the emptiest slabs of a kind, as many as the
// others have room for, and returns how many. It is for what is moved in the
// order of the index, a round for all of them.
func (r *Region) TakeSparseOf(k Kind) (n int) {
	l := &r.lists[r.listOf(k, 0)]
	var sparse []int32
	room := int32(0)
	for b := buckets - 1; b >= sparseBuckets; b-- {
		for i := l.head[b]; i != none; i = r.slabs[i].next {
			sparse = append(sparse, i)
			room += r.slabs[i].slots - r.slabs[i].usedN
		}
	}
	if c := l.cur; c != none {
		room += r.slabs[c].slots - r.slabs[c].usedN
	}
	for _, i := range sparse { // the emptiest come first
		s := &r.slabs[i]
		room -= s.slots // its free slots are no room, and its used ones take some
		if room < 0 {
			break
		}
		r.makeVictim(i)
		n++
	}
	return n
}

// TakePartial makes victims of all sparse record slabs and of those being
// filled, so that what is allocated from now on lies slab by slab in the order in
// which it is asked for, as long as there are free slabs.
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

// TakeTail makes victims of all slabs beyond the size that what is used would
// need, with a stock, if there is a group or more beyond it, and says whether it
// did. What is allocated next comes from the beginning of the device.
func (r *Region) TakeTail() bool {
	used := len(r.slabs) - r.freeSlabs // metadata included
	keep := roundUp(used+used/8+r.stock(), r.geo.groupSlabs)
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
		if x := &r.extents[e]; x.index { // index slabs gather elsewhere from now on
			x.index = false
			r.freeIndex -= int(x.free)
		}
	}
	return true
}

// IsVictim says whether o lies in a slab that is being emptied.
func (r *Region) IsVictim(o Off) bool {
	if o < Off(r.geo.superBytes) {
		return false
	}
	i := r.geo.slabOf(o)
	return i < len(r.slabs) && r.slabs[i].victim
}

// ReleaseVictims makes slabs of victims again of what is still used.
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

// LiveSlots appends to dst up to most live slots of a record slab, from slot
// from on, and returns the slot to go on with; less than 0 behind the last.
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

// SlotNumber returns which slot of its slab o is.
func (r *Region) SlotNumber(o Off) int {
	_, n := r.mustSlot(o)
	return int(n)
}

// ClassOf returns the class of the record slot at o, false where there is none.
func (r *Region) ClassOf(o Off) (ClassID, bool) {
	i, _, err := r.slotOf(o)
	if err != nil || r.slabs[i].kind != KindRecord {
		return 0, false
	}
	return r.slabs[i].class, true
}
