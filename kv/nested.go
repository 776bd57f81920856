package kv

import "nvkv/internal/goroutine"

// A goroutine that writes through the DB inside its own Update would wait for itself. nvkv can
// detect this for certain: Update's callback runs on the goroutine that called Update, which does
// nothing else until the callback returns. It cannot be detected for Begin(true): another goroutine
// than the one that began or last used the Tx may end it, and iter.Pull runs an iterator on a
// goroutine of its own. So there a writer waits.

// updating records which goroutine runs an Update.
func (w *writing) updating() { w.owner = goroutine.ID() }

// nested says whether the calling goroutine is inside an Update of this store.
func (db *DB) nested() bool {
	tx := db.txs.writer.Load()
	return tx != nil && tx.w.managed && tx.w.owner == goroutine.ID()
}
