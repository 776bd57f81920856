package alloc

import (
	"errors"
	"math/bits"
)

// none ends a list of slabs.
const none = -1

// slab is what DRAM knows of a slab. The two bitmaps say different things:
// used is what may not be handed out, live is what the index reaches. A slot
// that only a snapshot, a tombstone or an unfinished commit holds is used and
// not live, and a crash frees it because only live goes to the medium (R10).
type slab struct {
	used, live []uint64
	touched    uint64 // interval whose mark this opening has written
	mark       uint64 // mark that the opening found
	carve      uint32
	slots      int32
	usedN      int32
	liveN      int32
	cursor     int32 // slots below it were passed since the slab became current
	next, prev int32 // neighbours on its list
	bucket     int8  // list it is on, or none
	kind       Kind
	class      ClassID
	dirty      bool  // live changed since the last freeze
	markBad    bool  // the mark that the opening found has rotted
	place      uint8 // map place that holds the newest map
	victim     bool  // being emptied: on no list
	away       bool  // free, and being discarded: not to be had
	blocks     blocks
	freed      uint64 // interval in which it became free
	laps       uint8  // times it was filled since it was carved, or passed over
}

// buckets sort the partly filled slabs of a kind and class by free space:
// bucket b holds those with b eighths free or more.
const buckets = 8

// preferBuckets and up are reused before a free slab is carved: a quarter free
// makes a slab worth it, less costs too much walking for too few slots.
const preferBuckets = 2

func (s *slab) freeBucket() int8 {
	return int8(min(int32(buckets-1), (s.slots-s.usedN)*buckets/s.slots))
}

// lists holds the heads of the bucket lists of one kind and class.
type lists struct {
	head [buckets]int32
	cur  int32 // slab being filled, on no list
}

func emptyLists() lists {
	l := lists{cur: none}
	for i := range l.head {
		l.head[i] = none
	}
	return l
}

// listOf numbers the lists: record classes first, then the other kinds.
func (r *Region) listOf(k Kind, c ClassID) int {
	if k == KindRecord {
		return int(c)
	}
	return len(r.table.size) + int(k-KindPage)
}

func (r *Region) enlist(i int32) {
	s := &r.slabs[i]
	l := &r.lists[r.listOf(s.kind, s.class)]
	if s.usedN == s.slots || l.cur == i || s.victim {
		s.bucket = none
		return
	}
	b := s.freeBucket()
	s.bucket, s.prev, s.next = b, none, l.head[b]
	if s.next != none {
		r.slabs[s.next].prev = i
	}
	l.head[b] = i
}

func (r *Region) delist(i int32) {
	s := &r.slabs[i]
	if s.bucket == none {
		return
	}
	l := &r.lists[r.listOf(s.kind, s.class)]
	if s.prev == none {
		l.head[s.bucket] = s.next
	} else {
		r.slabs[s.prev].next = s.next
	}
	if s.next != none {
		r.slabs[s.next].prev = s.prev
	}
	s.bucket = none
}

// relist moves a slab whose fill changed to the list it belongs on.
func (r *Region) relist(i int32) {
	s := &r.slabs[i]
	if s.usedN < s.slots && s.bucket == s.freeBucket() || s.victim {
		return
	}
	r.delist(i)
	r.enlist(i)
}

// nextFree returns the first free slot at or above from, or none.
func (s *slab) nextFree(from int32) int32 {
	for w := from >> 6; int(w) < len(s.used); w++ {
		free := ^s.used[w]
		if w == from>>6 {
			free &= ^uint64(0) << (from & 63)
		}
		if free != 0 {
			if n := w<<6 + int32(bits.TrailingZeros64(free)); n < s.slots {
				return n
			}
			return none
		}
	}
	return none
}

func has(b []uint64, i int32) bool { return b[i>>6]>>(i&63)&1 != 0 }
func set(b []uint64, i int32)      { b[i>>6] |= 1 << (i & 63) }
func clear1(b []uint64, i int32)   { b[i>>6] &^= 1 << (i & 63) }

// pick makes a slab with a free slot the current one of its list: the emptiest
// where a quarter of it is free, else a free slab, else whatever has room.
func (r *Region) pick(k Kind, c ClassID, urgent bool) error {
	l := &r.lists[r.listOf(k, c)]
	if old := l.cur; old != none {
		l.cur = none
		if r.slabs[old].usedN == 0 {
			r.emptied(old)
		} else {
			r.enlist(old)
		}
	}
	if i := l.emptiest(preferBuckets); i != none && !r.worn(i) {
		r.makeCurrent(l, i)
		return nil
	}
	i, err := r.takeFree(k, urgent)
	if err == nil {
		if err = r.carve(i, k, c); err == nil {
			r.makeCurrent(l, i)
		}
		return err
	}
	if !errors.Is(err, ErrFull) {
		return err
	}
	i = l.emptiest(0)
	if i == none {
		r.ReleaseVictims() // emptying slabs may wait, whoever needs a slot cannot
		i = l.emptiest(0)
	}
	if i == none {
		return err
	}
	r.makeCurrent(l, i)
	return nil
}

// lapsMost is how often a slab is filled before a free one takes its place, if
// there is one: else a few keys that are updated all the time would wear out the
// slab that they lie in.
const lapsMost = 4

// worn says whether slab i has had its laps and another can be had for it.
func (r *Region) worn(i int32) bool {
	s := &r.slabs[i]
	if s.laps < lapsMost || r.freeSlabs-r.freeIndex <= r.reserve {
		return false
	}
	s.laps = 0
	return true
}

func (l *lists) emptiest(lowest int) int32 {
	for b := buckets - 1; b >= lowest; b-- {
		if l.head[b] != none {
			return l.head[b]
		}
	}
	return none
}

func (r *Region) makeCurrent(l *lists, i int32) {
	r.delist(i)
	r.slabs[i].cursor = 0
	r.slabs[i].laps = min(r.slabs[i].laps+1, lapsMost)
	l.cur = i
}

// takeFree returns a free slab, growing the device where there is none beyond
// the reserve. Only urgent callers, those that give space back or cannot fail,
// may dip into the reserve.
func (r *Region) takeFree(k Kind, urgent bool) (int32, error) {
	keep := r.reserve
	if urgent {
		keep = r.floor
	}
	if !r.secure() && !urgent {
		return none, errNoBlocks
	}
	if isIndex(k) && r.freeSlabs > r.reserve {
		i, err := r.indexSlab()
		if i != none {
			if err = r.have(i, keep); err == nil {
				return i, nil
			}
		}
		if err != nil && !errors.Is(err, ErrFull) {
			return none, err
		}
	}
	if r.freeSlabs-r.freeIndex <= r.reserve {
		err := r.grow(1)
		enough := r.freeSlabs > r.reserve || urgent && r.freeSlabs > r.floor
		if err != nil && !(enough && errors.Is(err, ErrFull)) {
			return none, err
		}
	}
	i := r.nextFreeSlab()
	err := r.have(i, keep)
	if errors.Is(err, ErrFull) {
		return r.haveOther(keep)
	}
	return i, err
}

// nextFreeSlab walks on from where the last one was found: a next-fit order
// spreads wear over the device. Extents where index slabs gather come last.
func (r *Region) nextFreeSlab() int32 {
	n := len(r.slabs)
	anywhere := r.freeSlabs == r.freeIndex
	for range n {
		if r.freeHint >= n {
			r.freeHint = 0
		}
		i := r.freeHint
		r.freeHint++
		if r.isFree(i) && (anywhere || !r.extents[r.extentOf(i)].index) {
			return int32(i)
		}
	}
	panic("alloc: free slabs counted but not found")
}

func (r *Region) isFree(i int) bool {
	return r.slabs[i].kind == KindFree && !r.slabs[i].away && !r.geo.isMeta(i)
}

// carve cuts a free slab into slots. A4: what it was carved into is durable no
// later than the first slot in it that counts: on a record slab Touch writes it
// with the first record, on others it is written here and rides on the fence
// of what names the slot. The carve number makes every record of an earlier
// carving fail its checksum.
func (r *Region) carve(i int32, k Kind, c ClassID) error {
	s := &r.slabs[i]
	if r.off&RuleA4 == 0 || s.carve == 0 {
		s.carve++
	}
	s.kind, s.class = k, c
	s.slots = int32(r.geo.slabBytes / r.table.slotBytes(k, c))
	s.usedN, s.liveN, s.cursor, s.touched, s.laps = 0, 0, 0, 0, 0
	s.bucket = none
	r.markDirty(i)
	s.used, s.live = makeBits(s.slots)
	r.identities.set(int(i), k, c, s.carve)
	r.countFree(i, -1)
	r.space[k].slabs++
	if k == KindRecord {
		return nil
	}
	return r.writeDesc(i, 0)
}

func makeBits(slots int32) (used, live []uint64) {
	n := int(slots+63) / 64
	b := make([]uint64, 2*n)
	return b[:n:n], b[n:]
}

// emptied gives a slab without a used slot back. Its map on the medium is
// rewritten by the next checkpoint unless it is carved anew before.
func (r *Region) emptied(i int32) {
	s := &r.slabs[i]
	l := &r.lists[r.listOf(s.kind, s.class)]
	if l.cur == i {
		return // keep filling it
	}
	r.delist(i)
	r.space[s.kind].slabs--
	s.kind, s.victim, s.freed, s.blocks = KindFree, false, r.interval, blocksThere
	r.countFree(i, +1)
}
