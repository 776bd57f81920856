//go:build race

package kv

// lockSeal keeps a checkpoint that fills in the checksum of a frozen page and a
// writer that copies the page apart: elsewhere the copy may have it or not.
func (db *DB) lockSeal()   { db.publish.Lock() }
func (db *DB) unlockSeal() { db.publish.Unlock() }
