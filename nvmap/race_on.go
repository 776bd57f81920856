//go:build race

package nvmap

import (
	"sync"
	"sync/atomic"
)

// raceEnabled says that the race detector watches this build. It sees only the
// Go heap: in mapped memory a race goes unreported and a correct publication
// through an atomic is reported as one, so page states, frames and mem devices
// live on the heap here.
const raceEnabled = true

// count adds n to a counter that has one writer at a time in ordinary use. The
// detector would rightly report two.
func count(c *uint64, n uint64) { atomic.AddUint64(c, n) }

func countOf(c *uint64) uint64 { return atomic.LoadUint64(c) }

// raceLock keeps Load and what changes the bytes that it reads apart: the
// detector would report every optimistic read, which is racy by design and
// validated.
type raceLock struct{ sync.RWMutex }
