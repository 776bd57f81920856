package alloc

import (
	"fmt"
	"math/bits"
)

func onesCount(w uint64) int { return bits.OnesCount64(w) }

// Stats describes the use of a region's space, in bytes unless a field says otherwise.
type Stats struct {
	DeviceBytes int64 // size of the region with its metadata
	FreeBytes   int64 // in free slabs only; free slots of other slabs do not count
	UsedBytes   int64 // in slots, pages, blocks and runs that are handed out
	LiveBytes   int64 // the part of UsedBytes that the index reaches
	Slabs       int   // slabs, metadata excluded
	FreeSlabs   int
	Reserve     int // free slabs that only urgent callers may take

	GoneBytes      int64 // the part of FreeBytes without blocks behind it
	DiscardedBytes int64 // given back to the file system since the opening

	Groups        int
	WearMaxBytes  int64 // bytes of slots handed out since the opening, each written once, in the most used group
	WearMeanBytes int64 // the mean over all groups
}

// Stats returns the present counts.
func (r *Region) Stats() Stats {
	s := Stats{
		DeviceBytes: r.geo.sizeOf(len(r.slabs)),
		FreeBytes:   int64(r.freeSlabs) * int64(r.geo.slabBytes),
		UsedBytes:   r.Used(), LiveBytes: r.Live(),
		FreeSlabs: r.freeSlabs, Reserve: r.reserve,
		GoneBytes: int64(r.goneSlabs) * int64(r.geo.slabBytes), DiscardedBytes: r.discarded,
	}
	s.Slabs = r.usable
	s.Groups = len(r.wear)
	for _, n := range r.wear {
		s.WearMaxBytes = max(s.WearMaxBytes, int64(n))
		s.WearMeanBytes += int64(n)
	}
	s.WearMeanBytes /= max(1, int64(s.Groups))
	return s
}

// Check verifies the region's own state: counts against bitmaps, live within used, lists against
// fill. It also reports the damage that earlier reads of metadata found. It calls report for every
// finding and returns their number.
func (r *Region) Check(report func(Off, string)) int {
	found := 0
	bad := func(o Off, format string, args ...any) {
		found++
		report(o, fmt.Sprintf(format, args...))
	}
	for _, e := range r.headBad {
		bad(Off(e.Off), "%s does not match", e.Structure)
	}
	free, sure, gone, dirty := 0, 0, 0, 0
	for i := range r.slabs {
		s := &r.slabs[i]
		if s.dirty {
			dirty++
		}
		switch {
		case r.geo.isMeta(i):
		case s.kind == KindFree:
			free++
			if r.isFree(i) && s.blocks == blocksThere {
				sure++
			}
			if r.isFree(i) && s.blocks == blocksGone {
				gone++
			}
		default:
			r.checkSlab(i, bad)
		}
	}
	if free != r.freeSlabs+r.away {
		bad(0, "%d free slabs, counted %d", free, r.freeSlabs+r.away)
	}
	if dirty != len(r.dirty) && r.ready {
		bad(0, "%d maps changed since the last freeze, %d listed", dirty, len(r.dirty))
	}
	if sure != r.sureSlabs || gone != r.goneSlabs {
		bad(0, "%d free slabs with blocks and %d without, counted %d and %d", sure, gone, r.sureSlabs, r.goneSlabs)
	}
	return found
}

func (r *Region) checkSlab(i int, bad func(Off, string, ...any)) {
	s := &r.slabs[i]
	o := r.geo.slabOff(i)
	if n := popcount(s.used); n != s.usedN {
		bad(o, "slab of kind %v: %d used slots, counted %d", s.kind, n, s.usedN)
	}
	if n := popcount(s.live); n != s.liveN {
		bad(o, "slab of kind %v: %d live slots, counted %d", s.kind, n, s.liveN)
	}
	for w := range s.live {
		if x := s.live[w] &^ s.used[w]; x != 0 {
			bad(o, "slab of kind %v: slots %#x from %d are live but free", s.kind, x, 64*w)
		}
	}
	listed := s.bucket != none
	current := r.listsOf(s).cur == int32(i)
	if want := s.usedN < s.slots && !current && !s.victim; listed != want {
		bad(o, "slab of kind %v with %d of %d slots used: listed %v", s.kind, s.usedN, s.slots, listed)
	}
	if listed && s.bucket != s.freeBucket() {
		bad(o, "slab of kind %v on list %d, belongs on %d", s.kind, s.bucket, s.freeBucket())
	}
}

// Wear returns the bytes of slots that were handed out in each group since the opening. Each slot
// is written once before it is free again.
func (r *Region) Wear() []uint64 { return append([]uint64(nil), r.wear...) }
