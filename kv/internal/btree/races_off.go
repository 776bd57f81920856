//go:build !race

package btree

// RaceLock keeps readers and the writer apart in race builds, where optimistic
// reads would all be reported. Elsewhere it is nothing.
type RaceLock struct{}

func (RaceLock) LockReaders()   {}
func (RaceLock) UnlockReaders() {}

type raceRef struct{}

func (raceRef) of(*RaceLock) {}
func (raceRef) rlock()       {}
func (raceRef) runlock()     {}
