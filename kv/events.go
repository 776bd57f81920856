package kv

import (
	"sync/atomic"
	"time"
)

// events are what Options.Logger is told of the store itself. The code that notices an event may hold
// locks, and a handler may use the DB, so the code leaves a note, and a goroutine without locks
// writes it.
type events struct {
	note     chan struct{} // has an element if there is something to write
	failed   atomic.Bool   // the failure was written
	refused  atomic.Uint64 // calls that ended with ErrFull
	toldFull atomic.Uint64 // of these: written
	muted    atomic.Bool   // further ones are written together, at the next sweep
	size     atomic.Int64  // of the store, as last written
}

func newEvents() events { return events{note: make(chan struct{}, 1)} }

// leave leaves a note.
func (e *events) leave() {
	select {
	case e.note <- struct{}{}:
	default:
	}
}

// refusedFull notes a call that ended with ErrFull. The first one is written at once, further ones
// together with the next sweep.
func (db *DB) refusedFull() {
	db.events.refused.Add(1)
	if !db.events.muted.Load() {
		db.events.leave()
	}
}

// writeEvents writes what has happened since it was last called, with due also what is written once
// in a while. The caller holds no lock.
func (db *DB) writeEvents(due bool) {
	e, log := &db.events, db.opt.Logger
	if f := db.failure.Load(); f != nil && e.failed.CompareAndSwap(false, true) {
		log.Error("failed", "error", *f)
	}
	if refused := e.refused.Load(); due || !e.muted.Load() {
		told := e.toldFull.Load()
		if e.muted.Store(refused > told); refused > told && e.toldFull.CompareAndSwap(told, refused) {
			log.Warn("full", "refused", refused-told, "bytes", db.m.Size())
		}
	}
	size := db.m.Size()
	if was := e.size.Swap(size); was != 0 && size > was {
		log.Info("growth", "from_bytes", was, "to_bytes", size)
	}
}

// logOpening writes the findings of an opening that has ended. The caller holds no lock. A store
// that was closed, or is new, had nothing to recover.
func (db *DB) logOpening(what string, err error) {
	r := &db.recovered
	for _, d := range r.damaged {
		db.opt.Logger.Warn("recovery met damage", "error", d.Error())
	}
	if err != nil {
		db.opt.Logger.Error(what, "error", err)
	} else if r.scanned > 0 || r.replayed > 0 || r.void > 0 || len(r.damaged) > 0 {
		db.opt.Logger.Info("recovery", "took", time.Since(r.began), "records", r.replayed, "void", r.void, "scanned_bytes", r.scanned, "damage", len(r.damaged))
	}
}
