package nvmap

import (
	"fmt"
	"sync/atomic"
)

// All devices and maps of a process share its address space with the Go runtime, which crashes if
// it gets none. So reservations have a budget: half of the address space that the processor gives a
// process.
//
// A device whose owner names no bound gets 1 TiB while there is plenty. Once that exceeds an eighth
// of the rest of the wide part of the budget, it gets half of it, and so on down to 16 GiB. The
// rest of the budget is kept for such devices: it suffices for more than a thousand stores, each
// with a mapping, a mirror and perhaps a second mapping.
const (
	spaceBudget = 64 << 40
	spaceWide   = 16 << 40
	grantLeast  = 16 << 30

	// spaceMost bounds the reservations including retired regions that are not yet freed.
	spaceMost = 104 << 40
)

var (
	spaceUsed atomic.Int64 // bytes of regions in use
	spaceHeld atomic.Int64 // bytes of regions in use and of retired ones
)

// defaultBound returns the bound of a device whose owner names none.
func defaultBound() int64 {
	size := int64(maxBytesDefault)
	for left := spaceWide - spaceUsed.Load(); size > grantLeast && 8*size > left; {
		size /= 2
	}
	return size
}

// takeSpace takes n bytes of the budget. It returns false if they exceed it.
func takeSpace(n int64) bool {
	if spaceUsed.Add(n) > spaceBudget {
		spaceUsed.Add(-n)
		return false
	}
	if spaceHeld.Add(n) > spaceMost {
		reclaim()
	}
	return true
}

// noSpace returns the error of a failed reservation.
func noSpace(size int64, err error) error {
	if err == nil {
		return fmt.Errorf("nvmap: reserving %d bytes of address space: the stores that are open have reserved %d bytes, of %d that they may", size, spaceUsed.Load(), int64(spaceBudget))
	}
	return fmt.Errorf("nvmap: reserving %d bytes of address space: %w", size, err)
}

// scant reports whether a device that grows in the given units got less than its owner asked for.
// An asked of 0 stands for the default.
func scant(asked, got, unit int64) bool {
	if asked == 0 {
		asked = maxBytesDefault
	}
	return got < exactly(asked, asked, unit) && !onHeap()
}
