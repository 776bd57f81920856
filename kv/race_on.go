//go:build race

package kv

import "sync"

// raceLock keeps readers and the writer apart in race builds: the detector
// would report every optimistic read, which is racy by design and validated.
type raceLock struct{ mu sync.RWMutex }

func (db *DB) rlockReaders()   { db.races.mu.RLock() }
func (db *DB) runlockReaders() { db.races.mu.RUnlock() }
func (db *DB) lockReaders()    { db.races.mu.Lock() }
func (db *DB) unlockReaders()  { db.races.mu.Unlock() }
