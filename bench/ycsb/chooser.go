package ycsb

import (
	"math"
	"math/rand/v2"
)

// A chooser picks one of the first n items. n never shrinks between calls; it grows as the thread
// inserts.
type chooser interface {
	next(r *rand.Rand, n uint64) uint64
}

// newChooser returns w's key chooser for a number of records that begins at items and may grow to
// grown.
func newChooser(w *Workload, items, grown uint64) chooser {
	switch w.Request {
	case Zipfian:
		return &scrambled{zipf: newZipf(scrambledItems, zipfTheta), items: grown}
	case Latest:
		return &latest{zipf: newZipf(max(items, 1), zipfTheta)}
	case HotSpot:
		return hotSpot{data: w.HotDataFraction, ops: w.HotOpFraction}
	case Exponential:
		return exponential{gamma: -math.Log(1-w.ExponentialPercent/100) / (float64(max(items, 1)) * w.ExponentialFrac)}
	case Sequential:
		return &sequential{}
	}
	return uniform{}
}

type uniform struct{}

func (uniform) next(r *rand.Rand, n uint64) uint64 { return r.Uint64N(n) }

// sequential walks the items and starts over at the end.
type sequential struct{ at uint64 }

func (s *sequential) next(_ *rand.Rand, n uint64) uint64 {
	i := s.at % n
	s.at = i + 1
	return i
}

// hotSpot sends a share of the operations to the first items.
type hotSpot struct{ data, ops float64 }

func (h hotSpot) next(r *rand.Rand, n uint64) uint64 {
	hot := min(n, max(1, uint64(h.data*float64(n))))
	if hot == n || r.Float64() < h.ops {
		return r.Uint64N(hot)
	}
	return hot + r.Uint64N(n-hot)
}

// exponential prefers the newest items: the given percentage of the draws
// lies within the given fraction of the items from the end.
type exponential struct{ gamma float64 }

func (e exponential) next(r *rand.Rand, n uint64) uint64 {
	for {
		back := -math.Log(1-r.Float64()) / e.gamma
		if back < float64(n) {
			return n - 1 - uint64(back)
		}
	}
}

// latest is zipfian by age: the newest item is the most popular one.
type latest struct{ zipf *zipf }

func (l *latest) next(r *rand.Rand, n uint64) uint64 {
	l.zipf.grow(n)
	return n - 1 - min(l.zipf.next(r), n-1)
}

// scrambled spreads the popular items of a zipfian draw over all items, so that they are not
// neighbours. As in YCSB, the draw is from a fixed, far larger range and is hashed to the items
// expected at the end of the run. Items that do not exist yet are drawn again. So the popular items
// stay the same while the store grows.
type scrambled struct {
	zipf  *zipf
	items uint64
}

func (s *scrambled) next(r *rand.Rand, n uint64) uint64 {
	for {
		if i := Hash(s.zipf.next(r)) % max(s.items, n); i < n {
			return i
		}
	}
}
