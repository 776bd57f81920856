package kv

import (
	"context"
	"time"

	"nvkv/alloc"
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

	rest    int64     // what was left of the spare bytes when the store settled last
	settled time.Time // when that was
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

// held returns the bytes of index pages and blocks that are used and not live. The last checkpoint
// needs most of them, until the next one flips. The caller holds the turn.
func (db *DB) held() int64 {
	const page, block = alloc.KindPage, alloc.KindBlock
	return db.r.UsedIn(page) - db.r.LiveIn(page) + db.r.UsedIn(block) - db.r.LiveIn(block)
}

// spare returns the bytes that a checkpoint and nothing else would give back: what the last one
// holds of the index, and free slabs. The caller holds the turn.
func (db *DB) spare() int64 { return db.held() + db.r.Discardable() }

// unsettled says whether a store that comes to rest should take a checkpoint and give back what is
// spare then, as soon as no snapshot sees it. A store in use would need it again soon. The caller
// holds the turn.
func (db *DB) unsettled() bool {
	return db.spare() > db.evac.waste.rest+db.opt.tidySlack+db.r.Used()/16
}

// settles says whether there is such a store and no snapshot. The caller holds the turn.
func (db *DB) settles() bool { return db.unsettled() && !db.snapshots() }

// atRest says whether the store has rested for long enough to settle. That may write most of the
// index. So a user who pauses again and again does not wear the medium out, it must not be more
// than three times what was written since the last checkpoint, or a minute must have passed. The
// caller holds the turn.
func (db *DB) atRest(l *looks) bool {
	return l.idle >= idleLooks && db.held() <= 3*db.sinceCheckpoint ||
		l.idle >= 3*idleLooks && time.Since(db.evac.waste.settled) > time.Minute
}

// noteWaste is called after each commit, under the turn.
func (db *DB) noteWaste() {
	w := &db.evac.waste
	gain, enough := db.weighWaste()
	w.low = min(w.low, gain)
	w.rest = min(w.rest, db.spare())
	if len(db.evac.wake) == 0 && (gain > max(enough, w.floor) || db.unsettled()) {
		db.wakeEvacuator()
	}
}

// newInterval is called when a checkpoint has flipped, under the turn.
func (db *DB) newInterval() {
	w := &db.evac.waste
	w.before, w.low = w.low, db.gain()
}

// looks counts the looks at a store: those in a row at an untidy one, and those since its last commit.
type looks struct {
	all, idle int
	commits   uint64
}

func (l *looks) count(commits uint64, untidy bool) {
	l.idle++
	if l.all++; !untidy {
		l.all = 0
	}
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

// awaitWaste waits until a round should begin and returns true, or returns false if there is nothing
// to wait for any more. If the store comes to rest without waste, it takes a checkpoint and gives
// free slabs back.
func (db *DB) awaitWaste(ctx context.Context) bool {
	var l looks
	for db.failure.Load() == nil && sleep(ctx, tidyDelay) {
		untidy, now, unsettled, rests := false, false, false, false
		_ = db.withTurn(func() error { // at rest the zero values count
			untidy, unsettled = db.untidy(), db.unsettled()
			l.count(db.counts.commits, untidy)
			now, rests = untidy && db.worthwhile(&l), unsettled && db.atRest(&l) && db.settles()
			return nil
		})
		switch {
		case now:
			return true
		case rests:
			db.settle(ctx)
			return false
		case !untidy && !unsettled: // a snapshot may end at any time
			return false
		}
	}
	return false
}

// settle takes a checkpoint, for a store at rest, and gives free slabs back. The checkpoint frees
// the index of the one before, and those slabs can be given back after another one (A10), which
// has little to write.
func (db *DB) settle(ctx context.Context) {
	err := db.checkpoint(ctx)
	if err == nil && db.asked(func() bool { return db.r.Discardable() > 0 }) {
		if err = db.checkpoint(ctx); err == nil {
			err = db.discardFree(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		db.opt.Logger.Warn("a checkpoint of a store at rest", "error", err)
	}
	_ = db.withTurn(func() error {
		db.evac.waste.rest, db.evac.waste.settled = db.spare(), time.Now()
		return nil
	})
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
