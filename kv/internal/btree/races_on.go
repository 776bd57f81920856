//go:build race

package btree

import "sync"

// RaceLock separates readers from the writer in race builds: the detector would report every
// optimistic read, which is racy by design and validated afterwards. Every section holds the lock,
// except the writer's own.
type RaceLock struct{ races sync.RWMutex }

func (l *RaceLock) LockReaders()   { l.races.Lock() }
func (l *RaceLock) UnlockReaders() { l.races.Unlock() }

// raceRef is the reference of a stripe to the lock.
type raceRef struct{ lock *RaceLock }

func (r *raceRef) of(l *RaceLock) { r.lock = l }

func (r *raceRef) rlock() {
	if r.lock != nil { // nil in a DB that was never opened
		r.lock.races.RLock()
	}
}

func (r *raceRef) runlock() {
	if r.lock != nil {
		r.lock.races.RUnlock()
	}
}
