package alloc

import "math/bits"

// slabSet is a set of slabs that finds members quickly. Level 0 has a bit per slab. A bit of a
// higher level says that a word of the level below is not zero. The top level is a single word. The
// cost of a search depends on the number of levels, which is four for a store of a tebibyte.
type slabSet struct {
	levels [][]uint64
	looks  uint64 // words read, for tests
}

// reach extends the set to slabs below n.
func (s *slabSet) reach(n int) {
	for l := 0; ; l++ {
		words := (n + 63) >> 6
		if l == len(s.levels) {
			s.levels = append(s.levels, nil)
		}
		old := len(s.levels[l])
		if words <= old {
			return
		}
		s.levels[l] = append(s.levels[l], make([]uint64, words-old)...)
		if l > 0 && old == 0 { // a new level
			for w, below := range s.levels[l-1] {
				if below != 0 {
					s.levels[l][w>>6] |= 1 << (w & 63)
				}
			}
		}
		if words == 1 {
			return
		}
		n = words
	}
}

func (s *slabSet) has(i int) bool {
	return len(s.levels) > 0 && i>>6 < len(s.levels[0]) && s.levels[0][i>>6]>>(i&63)&1 != 0
}

func (s *slabSet) add(i int) {
	s.reach(i + 1)
	for l := range s.levels {
		s.levels[l][i>>6] |= 1 << (i & 63)
		i >>= 6
	}
}

func (s *slabSet) remove(i int) {
	for l := range s.levels {
		if s.levels[l][i>>6] &^= 1 << (i & 63); s.levels[l][i>>6] != 0 {
			return
		}
		i >>= 6
	}
}

// next returns the first member that is at least i, or none.
func (s *slabSet) next(i int) int {
	for l := 0; l < len(s.levels) && i>>6 < len(s.levels[l]); l++ {
		s.looks++
		if w := s.levels[l][i>>6] >> (i & 63); w != 0 {
			i += bits.TrailingZeros64(w)
			for ; l > 0; l-- {
				s.looks++
				i = i<<6 + bits.TrailingZeros64(s.levels[l-1][i])
			}
			return i
		}
		i = i>>6 + 1
	}
	return none
}

// stretch returns the number of consecutive members beginning with member i, at most most.
func (s *slabSet) stretch(i, most int) (n int) {
	for n < most && (i+n)>>6 < len(s.levels[0]) {
		s.looks++
		at := (i + n) & 63
		ones := bits.TrailingZeros64(^(s.levels[0][(i+n)>>6] >> at))
		if n += ones; ones < 64-at {
			break
		}
	}
	return min(n, most)
}

// freeIn returns the set that slab i belongs to while it is free. Free slabs in extents that gather
// index slabs have a set of their own.
func (r *Region) freeIn(i int) *slabSet {
	if r.extents[r.extentOf(i)].index {
		return &r.free[1]
	}
	return &r.free[0]
}

// freeNow returns the set from which the next free slab is taken.
func (r *Region) freeNow() *slabSet {
	if r.freeSlabs == r.freeIndex {
		return &r.free[1]
	}
	return &r.free[0]
}

// setGathering sets whether index slabs gather in extent e.
func (r *Region) setGathering(e int, yes bool) {
	x := &r.extents[e]
	if x.index == yes {
		return
	}
	x.index = yes
	from, to, d := &r.free[0], &r.free[1], int(x.free)
	if !yes {
		from, to, d = to, from, -d
	}
	r.freeIndex += d
	first := r.geo.slabOf(Off(e) * extentBytes)
	for i := first; i < first+r.extentSlabs(); i++ {
		if from.has(i) {
			from.remove(i)
			to.add(i)
		}
	}
}

// stretchLooks bounds the stretches of free slabs that freeStretch examines for one that is long
// enough. It returns the longest of them.
const stretchLooks = 16

// freeStretch finds want consecutive free slabs, searching on from the last one found. If no
// stretch among the first looks is that long, it returns the longest of them.
func (r *Region) freeStretch(want, looks int) (first, length int) {
	set, at, wrapped := r.freeNow(), r.freeHint, false
	for ; looks > 0 && length < want; looks-- {
		i := set.next(at)
		if i == none && !wrapped {
			wrapped = true
			i = set.next(0)
		}
		if i == none || wrapped && i >= r.freeHint {
			break
		}
		n := set.stretch(i, want)
		if n > length {
			first, length = i, n
		}
		at = i + n
	}
	if length > 0 {
		r.freeHint = first + length
	}
	return first, length
}
