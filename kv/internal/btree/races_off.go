//go:build !race

package btree

// RaceLock separates readers from the writer in race builds, because the race detector would report
// every optimistic read. In other builds it does nothing.
type RaceLock struct{}

func (RaceLock) LockReaders()   {}
func (RaceLock) UnlockReaders() {}

type raceRef struct{}

func (raceRef) of(*RaceLock) {}
func (raceRef) rlock()       {}
func (raceRef) runlock()     {}
