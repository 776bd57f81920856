//go:build !race

package kv

// raceLock keeps readers and the writer apart in race builds, where optimistic
// reads would all be reported. Elsewhere it is nothing.
type raceLock struct{}

func (raceLock) lockReaders()   {}
func (raceLock) unlockReaders() {}

type raceRef struct{}

func (raceRef) of(*raceLock) {}
func (raceRef) rlock()       {}
func (raceRef) runlock()     {}

func (*DB) lockSeal()   {}
func (*DB) unlockSeal() {}
