//go:build race

package kv

import "sync"

// raceLock keeps readers and the writer apart in race builds: the detector
// would report every optimistic read, which is racy by design and validated.
// Every section holds it, except the writer's own.
type raceLock struct{ races sync.RWMutex }

func (l *raceLock) lockReaders()   { l.races.Lock() }
func (l *raceLock) unlockReaders() { l.races.Unlock() }

// raceRef is a stripe's way to the lock.
type raceRef struct{ lock *raceLock }

func (r *raceRef) of(l *raceLock) { r.lock = l }
func (r *raceRef) rlock()         { r.lock.races.RLock() }
func (r *raceRef) runlock()       { r.lock.races.RUnlock() }

// lockSeal keeps a checkpoint that fills in the checksum of a frozen page and a
// writer that copies the page apart: elsewhere the copy may have it or not.
func (db *DB) lockSeal()   { db.publish.Lock() }
func (db *DB) unlockSeal() { db.publish.Unlock() }
