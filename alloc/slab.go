package alloc

import (
	"errors"
	"math/bits"
)

// none ends a list of slabs.
const none = -1

// slab is the state of a slab in DRAM. Its two bitmaps differ: used marks the slots that may not be
// handed out, live those that the index reaches. A slot that only a snapshot, a tombstone or an
// unfinished commit holds is used and not live. A crash frees it, because only live bits are
// written to the medium (R10).
type slab struct {
	used, live []uint64
	touched    uint64 // interval of the mark that this opening has written
	mark       uint64 // mark that the opening found
	carve      uint32
	slots      int32
	usedN      int32
	liveN      int32
	cursor     int32 // slots below it are not searched while the slab is current
	next, prev int32 // neighbours on its list
	bucket     int8  // index of the list that it is on, or none
	kind       Kind
	class      ClassID
	dirty      bool  // live changed since the last freeze
	markBad    bool  // the mark that the opening found is damaged
	place      uint8 // place of the newest map
	victim     bool  // being emptied; on no list
	kept       bool  // carved by an urgent caller, for urgent callers only
	away       bool  // free and being discarded; not available
	blocks     blocks
	freed      uint64 // interval in which it became free
	adds       uint64 // contribution of the map that counts to the digest
	laps       uint8  // times it was filled or passed over since it was carved
}

// buckets is the number of lists that sort the partly filled slabs of a kind and class by free
// space: bucket b holds slabs that are free in b eighths or more.
const buckets = 8

// preferBuckets is the first bucket that is reused before a free slab is carved: slabs that are a
// quarter free. With less, the search finds too few slots. Of records with fewSlots or more in a
// slab, slabs that are an eighth free are reused too, except where the medium is written in lines: in
// scattered slots records of 123 bytes write 2.65 bytes in blocks of 256 for each of the user's, and
// 2.38 where a quarter is free.
const (
	preferBuckets = 2
	fewSlots      = 16
	lineBytes     = 64 // of a cache line
)

// preferFrom is the first bucket of a kind and class that is preferred to a free slab.
func (r *Region) preferFrom(k Kind, c ClassID) int {
	if r.thrifty || k == KindRecord && !r.inLines && r.geo.slabBytes/r.table.slotBytes(k, c) >= fewSlots {
		return preferBuckets - 1
	}
	return preferBuckets
}

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

// listsOf returns the lists that slab s belongs on.
func (r *Region) listsOf(s *slab) *lists {
	if s.kept {
		return &r.keptLists[r.listOf(s.kind, s.class)]
	}
	return &r.lists[r.listOf(s.kind, s.class)]
}

func (r *Region) enlist(i int32) {
	s := &r.slabs[i]
	l := r.listsOf(s)
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
	l := r.listsOf(s)
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

// pick makes a slab with a free slot the current one of its list: the emptiest if enough of
// it is free, else a free slab, else any slab with room.
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
	if i := l.emptiest(r.preferFrom(k, c)); i != none && (r.thrifty || !r.worn(i)) {
		r.makeCurrent(l, i)
		return nil
	}
	if i := l.emptiest(0); i != none && isIndex(k) && r.need == (Need{}) && r.freeSlabs <= minKept {
		r.makeCurrent(l, i) // a recovery of a full store leaves free slabs to kinds that have no slot
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
		r.ReleaseVictims() // the slot is needed more urgently than an empty slab
		i = l.emptiest(0)
	}
	if i == none {
		return err
	}
	r.makeCurrent(l, i)
	return nil
}

// lapsMost bounds how often a slab is filled before a free one replaces it, if there is one.
// Otherwise a few keys that are updated all the time would wear out their slab.
const lapsMost = 4

// worn reports whether slab i has been filled lapsMost times and another can replace it.
func (r *Region) worn(i int32) bool {
	s := &r.slabs[i]
	if s.laps < lapsMost || r.freeSlabs-r.freeIndex <= r.keep(s.kind, false) {
		return false
	}
	s.laps = 0
	return !isIndex(s.kind) || r.freeIndex > 0 // else the replacement might need growth
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

// takeFree returns a free slab. It grows the device if there is none beyond the kept room. Only
// urgent callers, which give space back or cannot fail, may take from the kept room.
func (r *Region) takeFree(k Kind, urgent bool) (int32, error) {
	if !r.secure() && !urgent {
		return none, errNoBlocks
	}
	keep := r.keep(k, false)
	if isIndex(k) && r.freeSlabs > keep {
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
	var err error
	if r.freeSlabs-r.freeIndex <= keep {
		err = r.grow(1)
	}
	if urgent {
		keep = r.keep(k, true)
	}
	if err != nil && !(r.freeSlabs > keep && errors.Is(err, ErrFull)) {
		return none, err
	}
	i := r.nextFreeSlab()
	err = r.have(i, keep)
	if errors.Is(err, ErrFull) {
		return r.haveOther(keep)
	}
	return i, err
}

// nextFreeSlab returns the next free slab after the last one found. This next-fit order spreads
// wear over the device. Extents that gather index slabs come last.
func (r *Region) nextFreeSlab() int32 {
	set := r.freeNow()
	i := set.next(r.freeHint)
	if i == none {
		i = set.next(0)
	}
	if i != none {
		r.freeHint = i + 1
		return int32(i)
	}
	panic("alloc: free slabs counted but not found")
}

func (r *Region) isFree(i int) bool {
	return r.slabs[i].kind == KindFree && !r.slabs[i].away && !r.geo.isMeta(i)
}

// carve divides a free slab into slots. A4: the identity is durable no later than the first slot
// that counts. For a record slab Touch writes it with the first record. For other kinds it is
// written here and shares the fence of the structure that names the slot. The new carve number
// makes every record of an earlier carving fail its checksum.
func (r *Region) carve(i int32, k Kind, c ClassID) error {
	s := &r.slabs[i]
	if !r.off.has(ruleA4) || s.carve == 0 {
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

// emptied makes a slab without a used slot free. The next checkpoint rewrites its map on the medium
// unless the slab is carved anew before.
func (r *Region) emptied(i int32) {
	s := &r.slabs[i]
	if r.listsOf(s).cur == i {
		return // continue to fill it
	}
	r.delist(i)
	if s.kept {
		s.kept = false
		r.keptSlabs--
	}
	r.space[s.kind].slabs--
	s.kind, s.victim, s.freed, s.blocks = KindFree, false, r.interval, blocksThere
	r.countFree(i, +1)
}
