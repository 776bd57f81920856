//go:build !race

package nvmap

// raceEnabled reports whether the race detector watches this build.
const raceEnabled = false

// maxBytesDefault is the address space of a device whose owner names no bound, in bytes.
const maxBytesDefault = 1 << 40

// count adds n to a counter that has one writer at a time in ordinary use. It is a plain addition
// because it runs between a store and its fence, where a locked instruction would wait for the
// store to drain.
func count(c *uint64, n uint64) { *c += n }

func countOf(c *uint64) uint64 { return *c }

// raceLock is a lock in race builds only.
type raceLock struct{}

func (*raceLock) Lock()    {}
func (*raceLock) Unlock()  {}
func (*raceLock) RLock()   {}
func (*raceLock) RUnlock() {}
