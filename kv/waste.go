package kv

import (
	"context"
	"time"
)

// waste measures the room that a store could do without. A store in use needs some spare room: a
// checkpoint writes the changed index pages elsewhere before the old ones are free, and it holds
// the records that are overwritten meanwhile. The next checkpoint needs that room again. To move
// records in order to give it back would cost writes for nothing, so the evacuator considers the
// least gain over a while. docs/design.md, "The evacuator", has the rules.
type waste struct {
	low    int64 // the least gain since the last checkpoint
	before int64 // the least gain in the interval before
	floor  int64 // gain below which no round begins: see tidied
}

const (
	// tidySlack is the waste in bytes that is always tolerated.
	tidySlack = 4 << 20
	// tidyDelay is how long the evacuator waits before it looks again at a store for which it was
	// woken. Data that are being deleted need not be moved first.
	tidyDelay = 200 * time.Millisecond
	// After idleLooks looks without a commit a store is idle. After patience looks a round begins,
	// even if a slow writer has not come to a checkpoint.
	idleLooks, patience = 5, 25
)

// gain returns how many bytes a round could free. The caller holds the turn.
func (db *DB) gain() int64 {
	gain, _ := db.weighWaste()
	return gain
}

// weighWaste returns gain and enoughGain.
func (db *DB) weighWaste() (gain, enough int64) {
	used := db.r.Used()
	return db.r.Backed() - used + int64(len(db.tombs))*tombBytes, db.opt.tidySlack + used*5/16
}

// tombBytes is the size of a tombstone, approximately.
const tombBytes = 48

// enoughGain returns the gain above which a round may begin.
func (db *DB) enoughGain() int64 {
	_, enough := db.weighWaste()
	return enough
}

// untidy says whether a round may pay. The caller holds the turn.
func (db *DB) untidy() bool {
	gain, enough := db.weighWaste()
	return gain > max(enough, db.evac.waste.floor)
}

// noteWaste is called after each commit, under the turn.
func (db *DB) noteWaste() {
	w := &db.evac.waste
	gain, enough := db.weighWaste()
	w.low = min(w.low, gain)
	if gain > max(enough, w.floor) {
		db.wakeEvacuator()
	}
}

// newInterval is called when a checkpoint has flipped, under the turn.
func (db *DB) newInterval() {
	w := &db.evac.waste
	w.before, w.low = w.low, db.gain()
}

// looks counts the looks at an untidy store: all, and those since its last commit.
type looks struct {
	all, idle int
	commits   uint64
}

func (l *looks) count(commits uint64) {
	l.all++
	l.idle++
	if l.commits != commits {
		l.commits, l.idle = commits, 0
	}
}

// worthwhile says whether a round should begin now: the gain exceeds the used bytes, or it stayed
// high for an interval between checkpoints and since, or for a while, or the store is idle. The
// caller holds the turn.
func (db *DB) worthwhile(l *looks) bool {
	w := &db.evac.waste
	return l.idle >= idleLooks || l.all >= patience ||
		db.gain() > db.r.Used() || min(w.low, w.before) > db.enoughGain()
}

// awaitWaste waits until a round should begin and returns true, or returns false if there is not
// enough gain any more.
func (db *DB) awaitWaste(ctx context.Context) bool {
	var l looks
	for db.failure.Load() == nil && sleep(ctx, tidyDelay) {
		untidy, now := false, false
		_ = db.withTurn(func() error { // at rest the zero values count
			l.count(db.counts.commits)
			untidy, now = db.untidy(), db.worthwhile(&l)
			return nil
		})
		if !untidy || now {
			return untidy
		}
	}
	return false
}

// tidyEnough says whether a round may end. Free slabs that can be given back do not count as gain.
// The limit leaves the fullest of the sparse slabs, which cost the most to move, and is well below
// the gain that starts a round. The caller holds the turn.
func (db *DB) tidyEnough() bool {
	return db.gain()-db.r.Discardable() <= db.enoughGain()*3/4
}

// tidied ends a round. If the round had to leave more than the limit, the next one waits until
// there is more. The caller holds the turn.
func (db *DB) tidied() {
	w := &db.evac.waste
	w.floor = 0
	if left := db.gain(); !db.tidyEnough() {
		w.floor = left + max(db.opt.tidySlack, db.r.Used()/16)
	}
}
