package kv

import (
	"fmt"
	"slices"

	"nvkv/kv/internal/record"
)

// defaultRenewAt is the counter from which a run is ended while the store is open. It leaves 2^30
// transactions for the writers that have already passed the wait for a checkpoint; each of these is
// a running call.
const defaultRenewAt = record.MaxCounter - 1<<30

// errRunsEnded refuses an opening for writing, because no run number is left.
var errRunsEnded = fmt.Errorf("nvkv: the store has been opened for writing %d times, and its format numbers no more openings: open it read-only, or dump or back it up and load or restore that into a new store", record.MaxRun)

// renewRun ends the run and begins the next if its counter nears the end, as an opening would (R4).
// The whole run is fenced, so its last counter counts. No record of the next run is written before
// the superblock says both. The caller is a freeze, with its standstill, and has closed the open
// group.
func (db *DB) renewRun() error {
	if db.counter < db.opt.renewAt || db.run >= record.MaxRun {
		return nil
	}
	if f := db.failure.Load(); f != nil { // the highest transaction may be incomplete
		return *f
	}
	st := db.checkpoints.base
	st.ended = append(slices.Clone(st.ended), endedRun{db.run, db.counter})
	st.run = db.run + 1
	if !db.off(ruleR4) {
		if err := db.r.WriteSuper(st.encode()); err != nil {
			return db.fail(err)
		}
	}
	db.checkpoints.base = st
	db.publish.Lock()
	defer db.publish.Unlock()
	db.run, db.counter = st.run, 0
	db.visible = record.MakeNumber(db.run, 0)
	return nil
}
