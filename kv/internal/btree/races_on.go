//go:build race

package btree

import "sync"

// RaceLock keeps readers and the writer apart in race builds: the detector
// would report every optimistic read, which is racy by design and validated.
// Every section holds it, except the writer's own.
type RaceLock struct{ races sync.RWMutex }

func (l *RaceLock) LockReaders()   { l.races.Lock() }
func (l *RaceLock) UnlockReaders() { l.races.Unlock() }

// raceRef is a stripe's way to the lock.
type raceRef struct{ lock *RaceLock }

func (r *raceRef) of(l *RaceLock) { r.lock = l }

func (r *raceRef) rlock() {
	if r.lock != nil { // not in a DB that was never opened
		r.lock.races.RLock()
	}
}

func (r *raceRef) runlock() {
	if r.lock != nil {
		r.lock.races.RUnlock()
	}
}
