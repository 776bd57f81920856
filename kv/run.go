package kv

import (
	"fmt"
	"slices"

	"nvkv/kv/internal/record"
)

// defaultRenewAt is the counter from which on a run is ended while the store is
// open. It leaves 2^30 transactions to those who have gone past the wait for a
// checkpoint: each is a caller that runs.
const defaultRenewAt = record.MaxCounter - 1<<30

// errRunsEnded refuses an opening for writing that the format has no number for.
var errRunsEnded = fmt.Errorf("nvkv: the store has been opened for writing %d times, and its format numbers no more openings: open it read-only, or dump or back it up and load or restore that into a new store", record.MaxRun)

// renewRun ends the run and begins the next where its counter nears its end, as an
// opening would (R4): all of the run is fenced, so that its last counter counts,
// and no record of the next one is written before the superblock says both. The caller
// is a freeze, with its standstill and behind the end of an open group.
func (db *DB) renewRun() error {
	if db.counter < db.opt.renewAt || db.run >= record.MaxRun {
		return nil
	}
	if f := db.failure.Load(); f != nil { // the highest transaction may not have ended
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
