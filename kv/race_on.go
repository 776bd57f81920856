//go:build race

package kv

import "sync"

// raceLock keeps readers and the writer apart in race builds: the detector
// would report every optimistic read, which is racy by design and validated.
type raceLock struct{ races sync.RWMutex }

func (l *raceLock) rlockReaders()   { l.races.RLock() }
func (l *raceLock) runlockReaders() { l.races.RUnlock() }
func (l *raceLock) lockReaders()    { l.races.Lock() }
func (l *raceLock) unlockReaders()  { l.races.Unlock() }
