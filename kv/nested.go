package kv

import "nvkv/internal/goroutine"

// A goroutine that writes through the DB inside its own Update would wait for
// itself. That can be told for certain: Update's callback runs on the goroutine
// that called Update, which does nothing else before the callback returns. Of a Tx
// of Begin(true) it cannot be told: it may be ended by another goroutine than the one
// that began it or used it last, and iter.Pull runs an iterator on one of its own. So
// there a writer waits.

// updating notes whose Update a Tx is.
func (w *writing) updating() { w.owner = goroutine.ID() }

// nested says whether the calling goroutine is inside an Update of this store.
func (db *DB) nested() bool {
	tx := db.txs.writer.Load()
	return tx != nil && tx.w.managed && tx.w.owner == goroutine.ID()
}
