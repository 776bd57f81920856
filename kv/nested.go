package kv

import "nvkv/internal/goroutine"

// A goroutine that writes through the DB while it has a writable Tx open would
// wait for itself. So a writable Tx knows whose it is, and whoever finds the
// turn held by one compares.

// begun makes a Tx the calling goroutine's: an Update's for good, since its
// caller stays inside until it ends, one of Begin(true) until another uses it.
func (w *writing) begun() { w.owner.Store(goroutine.ID()) }

// used makes a Tx of Begin(true) the calling goroutine's: it may be handed on.
func (w *writing) used() {
	if w.managed {
		return
	}
	if id := goroutine.ID(); w.owner.Load() != id {
		w.owner.Store(id)
	}
}

// nested says whether the calling goroutine has this store's writable Tx open.
func (db *DB) nested() bool {
	tx := db.txs.writer.Load()
	return tx != nil && tx.w.owner.Load() == goroutine.ID()
}
