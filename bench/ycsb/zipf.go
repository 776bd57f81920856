package ycsb

import (
	"math"
	"math/rand/v2"
)

const (
	zipfTheta = 0.99

	// scrambledItems is the range of the draws of YCSB's scrambled zipfian chooser, whatever the
	// number of records. Summing its zeta takes minutes, so YCSB has the sum as a constant, too.
	scrambledItems = 10_000_000_000
	scrambledZeta  = 26.46902820178302
)

// zipf draws ranks from 0: rank k with a probability proportional to
// 1/(k+1)^theta. The method is that of Gray et al., "Quickly Generating
// Billion-Record Synthetic Databases", SIGMOD 1994: one power a draw.
type zipf struct {
	theta, alpha  float64
	items         uint64
	zeta, zeta2   float64 // sums of 1/i^theta up to items, and up to 2
	eta, halfPowT float64
}

func newZipf(items uint64, theta float64) *zipf {
	z := &zipf{theta: theta, alpha: 1 / (1 - theta), zeta2: zetaFrom(0, 2, theta, 0), halfPowT: 1 + math.Pow(0.5, theta)}
	if items == scrambledItems && theta == zipfTheta {
		z.items, z.zeta = items, scrambledZeta
		z.settle()
		return z
	}
	z.grow(items)
	return z
}

// zetaFrom adds the terms (done, upto] to a sum.
func zetaFrom(done, upto uint64, theta, sum float64) float64 {
	for i := done + 1; i <= upto; i++ {
		sum += 1 / math.Pow(float64(i), theta)
	}
	return sum
}

// grow raises the number of items; it costs one power for each new one.
func (z *zipf) grow(items uint64) {
	if items <= z.items {
		return
	}
	z.zeta = zetaFrom(z.items, items, z.theta, z.zeta)
	z.items = items
	z.settle()
}

func (z *zipf) settle() {
	z.eta = (1 - math.Pow(2/float64(z.items), 1-z.theta)) / (1 - z.zeta2/z.zeta)
}

func (z *zipf) next(r *rand.Rand) uint64 { return z.at(r.Float64()) }

// at returns the rank at the quantile u in [0, 1).
func (z *zipf) at(u float64) uint64 {
	uz := u * z.zeta
	switch {
	case uz < 1 || z.items < 2:
		return 0
	case uz < z.halfPowT || z.items == 2:
		return 1
	}
	return min(z.items-1, uint64(float64(z.items)*math.Pow(z.eta*u-z.eta+1, z.alpha)))
}
