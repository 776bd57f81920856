package kv

import (
	"context"
	"time"
)

// A store in use has room to spare that is no waste: a checkpoint writes the
// changed pages of the index elsewhere before it frees the old ones, and holds
// what is overwritten meanwhile. The next one needs that room again. Moving
// records to give it back would cost writes twice, so the evacuator goes by
// what the store could have done without.
type waste struct {
	low    int64 // the least that was to be gained since the last checkpoint
	before int64 // and in the interval before
	floor  int64 // what the last round had to leave, and some
}

const (
	// tidySlack is what a store may waste without anybody minding, in bytes.
	tidySlack = 4 << 20
	// tidyDelay is how long the evacuator waits before it looks again at a store
	// that it was woken for: what is being deleted need not be moved first.
	tidyDelay = 200 * time.Millisecond
	// idleLooks is after how many looks without a commit a store is idle, and
	// patience after how many the room is given back although a slow writer has
	// not come to a checkpoint.
	idleLooks, patience = 5, 25
)

// gain returns how many bytes tidying might give back. The caller holds the turn.
func (db *DB) gain() int64 {
	gain, _ := db.weighWaste()
	return gain
}

// weighWaste returns gain and enoughGain.
func (db *DB) weighWaste() (gain, enough int64) {
	used := db.r.Used()
	return db.r.Backed() - used + int64(len(db.tombs))*tombBytes, db.opt.tidySlack + used*5/16
}

// tombBytes is what a tombstone takes, about.
const tombBytes = 48

// enoughGain is how much there has to be to be gained.
func (db *DB) enoughGain() int64 {
	_, enough := db.weighWaste()
	return enough
}

// untidy says whether it may pay to begin. The caller holds the turn.
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

// looks counts those at an untidy store, and those since its last commit.
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

// worthwhile says whether it pays to tidy now: where more is wasted than used,
// where the room was not needed for an interval of checkpoints and since, or for
// a while, and where nobody is disturbed. The caller holds the turn.
func (db *DB) worthwhile(l *looks) bool {
	w := &db.evac.waste
	return l.idle >= idleLooks || l.all >= patience ||
		db.gain() > db.r.Used() || min(w.low, w.before) > db.enoughGain()
}

// awaitWaste waits until it pays to tidy and returns true, or false if there is
// nothing to be gained any more.
func (db *DB) awaitWaste(ctx context.Context) bool {
	var l looks
	for db.failure.Load() == nil && sleep(ctx, tidyDelay) {
		untidy, now := false, false
		_ = db.withTurn(func() error { // at rest nothing is to be had
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

// tidyEnough says whether a round may end: what is free by now can be given
// back. It leaves the fullest of the sparse slabs, which cost the most to move,
// and stays well below what would wake it again. The caller holds the turn.
func (db *DB) tidyEnough() bool {
	return db.gain()-db.r.Discardable() <= db.enoughGain()*3/4
}

// tidied ends a round: if it had to leave more than it should, the next one waits
// until there is more. The caller holds the turn.
func (db *DB) tidied() {
	w := &db.evac.waste
	w.floor = 0
	if left := db.gain(); !db.tidyEnough() {
		w.floor = left + max(db.opt.tidySlack, db.r.Used()/16)
	}
}
