//go:build !race

package kv

// raceLock keeps readers and the writer apart in race builds, where optimistic
// reads would all be reported. Elsewhere it is nothing.
type raceLock struct{}

func (db *DB) rlockReaders()   {}
func (db *DB) runlockReaders() {}
func (db *DB) lockReaders()    {}
func (db *DB) unlockReaders()  {}
