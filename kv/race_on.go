//go:build race

package kv

// lockSeal separates a checkpoint, which writes the checksum into a frozen page, from a writer that
// copies the page. In other builds a copy may have the checksum or not; it does not matter.
func (db *DB) lockSeal()   { db.publish.Lock() }
func (db *DB) unlockSeal() { db.publish.Unlock() }
