//go:build !race

package kv

// raceLock keeps readers and the writer apart in race builds, where optimistic
// reads would all be reported. Elsewhere it is nothing.
type raceLock struct{}

func (raceLock) rlockReaders()   {}
func (raceLock) runlockReaders() {}
func (raceLock) lockReaders()    {}
func (raceLock) unlockReaders()  {}
