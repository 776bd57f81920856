package kv

import (
	"context"
	"errors"

	"nvkv/nvmap"
)

// Compact evacuates sparse slabs and gives space back, at full speed, while readers and writers
// continue. It rewrites records that do not lie in the order of their keys, so that scans read the
// medium from front to back. For that the store may grow by the size of the moved records until the
// old slabs are empty. If it cannot grow, Compact only empties sparse slabs into each other and the
// order stays. Records that snapshots see stay in their places.
//
// If ctx ends, Compact stops between two moves, and its moves so far stay. Compact calls
// Options.Progress.
func (db *DB) Compact(ctx context.Context) error {
	return db.compactTelling(ctx, db.reporter())
}

// compactTelling is Compact that calls tell, or nothing if that is nil, instead of
// Options.Progress.
func (db *DB) compactTelling(ctx context.Context, tell func(Progress)) error {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	if err := db.writable(); err != nil {
		return err
	}
	err = db.compact(orBackground(ctx), tell)
	if errors.Is(err, errResting) {
		return db.writable() // the store was closed or failed meanwhile
	}
	return err
}

func (db *DB) compact(ctx context.Context, tell func(Progress)) error {
	w := walkRound{db: db, records: true, order: true}
	keys := int64(0)
	err := db.withTurn(func() error {
		keys = db.keys
		db.r.TakePartial()
		return nil
	})
	if err != nil {
		return err
	}
	told := newProgress("compact", keys, tell)
	err = w.walk(ctx, &pace{beside: true}, told)
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		err = nil // no room to rewrite more records
	}
	if e := db.withTurn(func() error { db.r.ReleaseVictims(); return nil }); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := db.tidy(ctx, &pace{beside: true}, neverEnough); err != nil {
		return err
	}
	err = db.clearTail(ctx)
	told.tell(w.keys, w.bytes, true)
	return err
}

// clearTail moves data at the end of the device to free slabs before it, so that Close can cut the
// end off.
func (db *DB) clearTail(ctx context.Context) error {
	w := walkRound{db: db, records: true, runs: true}
	any := false
	err := db.withTurn(func() error {
		if any = db.r.TakeTail(); any {
			w.begin()
		}
		return nil
	})
	if err != nil || !any {
		return err
	}
	err = w.walk(ctx, &pace{beside: true}, nil)
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		err = nil
	}
	if err == nil {
		err = db.checkpoint(ctx)
	}
	if e := db.withTurn(func() error { db.r.ReleaseVictims(); db.tidied(); return nil }); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return db.discardFree(ctx)
}

// squeezeSlabs is how many free slabs a full store makes before a put is tried again: enough for
// several puts, but few, because the caller waits.
const squeezeSlabs = 8

// squeezeSpare is how many slabs squeeze makes in addition to what a commit needs.
const squeezeSpare = 2

// roomWanted is the space that a commit needs in a full store.
type roomWanted struct {
	slots int64 // bytes
	runs  int64 // bytes, in whole pages
}

func wantedBy(es []entry) (w roomWanted) {
	for i := range es {
		if e := &es[i]; e.spill {
			w.runs += (e.runBytes() + nvmap.PageBytes - 1) &^ (nvmap.PageBytes - 1)
		} else {
			w.slots += int64(len(e.image))
		}
	}
	return w
}

// squeeze makes room in a full store for a commit. It collects expired records and takes a
// checkpoint, which frees the space of deletes. Then it empties sparse slabs into each other until
// there is enough room, and if these are not enough, slabs of which an eighth is free.
func (db *DB) squeeze(ctx context.Context, p *pace, w roomWanted) error {
	if err := db.makeRoom(ctx); err != nil {
		return err
	}
	slabs := squeezeSlabs + int(w.slots/int64(db.r.SlabBytes()))
	// The commit itself, and one of another goroutine before it, may carve a slab.
	room := w.slots + w.runs + squeezeSpare*int64(db.r.SlabBytes())
	enough := func() bool { return db.r.Unreserved() >= slabs && db.r.RoomForRuns() >= room }
	// In relaxed mode expired records waited for their group to be closed, so they need a
	// checkpoint frozen later.
	if db.asked(func() bool { return len(db.tombs) > 0 && !enough() }) {
		if err := db.checkpoint(ctx); err != nil {
			return err
		}
	}
	err := db.emptySlabs(ctx, p, enough)
	if err == nil && w.slots+w.runs > int64(squeezeSlabs*db.r.SlabBytes()) && !db.asked(enough) {
		defer db.asked(func() bool { db.r.SetThrifty(false); return true })
		if db.asked(func() bool { db.r.SetThrifty(true); return true }) {
			err = db.emptySlabs(ctx, p, enough)
		}
	}
	if e := db.withTurn(func() error { db.r.ReleaseVictims(); return nil }); err == nil {
		err = e
	}
	return err
}

// emptySlabs empties slabs until there is enough room or a round frees nothing more.
func (db *DB) emptySlabs(ctx context.Context, p *pace, enough func() bool) error {
	room := func() (n int64) {
		_ = db.withTurn(func() error { n = db.r.RoomForRuns(); return nil })
		return n
	}
	for round, before := 0, room(); ; round++ {
		_, err := db.emptyRecordSlabs(ctx, p, squeezeSlots, enough)
		if err != nil && !full(err) {
			return err
		}
		wasFull := err != nil
		index, err := db.squeezeIndex(ctx, p, enough)
		if err != nil {
			return err
		}
		if !wasFull && !index {
			return nil
		}
		if err := db.checkpoint(ctx); err != nil { // frees the old pages
			return err
		}
		now := room()
		if !wasFull || round >= squeezeRounds && now <= before {
			return nil
		}
		before = now
	}
}

// squeezeSlots is how many slots are emptied at a time in a full store. Each may need a copy of a
// leaf until the next checkpoint.
const squeezeSlots = 8

// squeezeRounds is how many rounds may fill the store with copies of index pages, which a
// checkpoint then frees.
const squeezeRounds = 4

// squeezeIndex empties index slabs, if emptying record slabs was not enough.
func (db *DB) squeezeIndex(ctx context.Context, p *pace, enough func() bool) (moved bool, err error) {
	done := false
	if err := db.withTurn(func() error { done = enough(); return nil }); err != nil || done {
		return false, err
	}
	moved, err = db.emptyIndexSlabs(ctx, p, 2*int64(db.r.SlabBytes()))
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		err = nil
	}
	return moved, err
}

// shrink runs when the store is closed and no call is under way. It cuts free groups off the end of
// the store and gives the blocks of other free slabs back, except for a stock. So the next opening
// has the blocks of the kept room, even if others have filled the file system meanwhile.
func (db *DB) shrink() error {
	if err := db.cutTail(); err != nil {
		return err
	}
	return db.discardFree(context.Background())
}

func (db *DB) cutTail() error {
	db.txs.mu.Lock()
	defer db.txs.mu.Unlock()
	if db.txs.open > 0 {
		return nil
	}
	_, err := db.r.Truncate()
	return err
}
