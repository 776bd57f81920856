//go:build race

package nvmap

import (
	"sync"
	"sync/atomic"
)

// raceEnabled reports whether the race detector watches this build. The detector handles the Go
// heap only: in mapped memory it misses races, and it reports a correct publication through an
// atomic as a race. So in this build page states lie on the heap, and in nvkv's own tests frames and
// mem devices too (racing.Heap).
const raceEnabled = true

// maxBytesDefault is the address space of a device whose owner names no bound, in bytes. It is less
// than in other builds, because the detector needs much of the address space for itself.
const maxBytesDefault = grantLeast

// count adds n to a counter that has one writer at a time in ordinary use. A second writer is a
// race that the detector would report.
func count(c *uint64, n uint64) { atomic.AddUint64(c, n) }

func countOf(c *uint64) uint64 { return atomic.LoadUint64(c) }

// raceLock separates Load from the code that changes the bytes that it reads. Without it the
// detector would report every optimistic read, which races by design and is validated.
type raceLock struct{ sync.RWMutex }
