package kv

import (
	"context"
	"errors"
)

// Compact evacuates sparse slabs and gives space back, at once and at full
// speed, while readers and writers go on. Records that do not lie in the order
// of their keys are moved so that they do, and scans read the medium from front
// to back. That takes room: the store may grow by what is moved until the old
// slabs are empty, and where it cannot, sparse slabs are emptied into each other
// and the order stays as it is. What snapshots see stays in its place.
//
// When ctx ends, Compact ends between two moves, and what was moved stays so.
// Options.Progress is told how far it is.
func (db *DB) Compact(ctx context.Context) error {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	if err := db.mayWait(); err != nil {
		return err
	}
	err = db.compact(ctx)
	if errors.Is(err, errResting) {
		return db.writable() // it was closed, or failed, meanwhile
	}
	return err
}

func (db *DB) compact(ctx context.Context) error {
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
	told := newProgress("compact", keys, db.opt.Progress)
	err = w.walk(ctx, &pace{}, told)
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		err = nil // no room to put more in order
	}
	if e := db.withTurn(func() error { db.r.ReleaseVictims(); return nil }); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := db.tidy(ctx, &pace{}, neverEnough); err != nil {
		return err
	}
	err = db.clearTail(ctx)
	told.tell(w.keys, w.bytes, true)
	return err
}

// clearTail moves what lies at the end of the device to free slabs before it, so
// that Close can cut the end off.
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
	err = w.walk(ctx, &pace{}, nil)
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

// squeezeSlabs is how many free slabs a full store makes before a put is tried
// again: enough for a few, and few enough not to keep the caller waiting.
const squeezeSlabs = 8

// squeeze makes room in a full store: what has expired and what deletes left
// goes, then sparse slabs are emptied into each other until there are some free.
func (db *DB) squeeze(ctx context.Context) error {
	if err := db.makeRoom(ctx); err != nil {
		return err
	}
	enough := func() bool { return db.r.Unreserved() >= squeezeSlabs }
	for range squeezeRounds {
		_, err := db.emptyRecordSlabs(ctx, &pace{}, squeezeSlots, enough)
		full := errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed)
		if err != nil && !full {
			return err
		}
		index, err := db.squeezeIndex(ctx, enough)
		if err != nil {
			return err
		}
		if full || index { // old pages are free after the next checkpoint
			if err := db.checkpoint(ctx); err != nil {
				return err
			}
		}
		if !full {
			break
		}
	}
	return db.withTurn(func() error { db.r.ReleaseVictims(); return nil })
}

// squeezeSlots is how many slots are emptied at a time in a full store: each may
// take a copy of a leaf until the next checkpoint.
const squeezeSlots = 8

// squeezeRounds is how often moving may fill a store up with copies of index
// pages, which a checkpoint then frees.
const squeezeRounds = 4

// squeezeIndex empties index slabs where record slabs were not enough.
func (db *DB) squeezeIndex(ctx context.Context, enough func() bool) (moved bool, err error) {
	done := false
	if err := db.withTurn(func() error { done = enough(); return nil }); err != nil || done {
		return false, err
	}
	moved, err = db.emptyIndexSlabs(ctx, &pace{}, 2*int64(db.r.SlabBytes()))
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		err = nil
	}
	return moved, err
}

// shrink cuts free groups off the end of the store when it is closed, where
// nobody looks at it any more, and gives the blocks of other free slabs back, but
// for a stock: so the next opening finds the reserve's blocks, also on a file
// system that others have filled by then.
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
