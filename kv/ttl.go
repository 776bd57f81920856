package kv

import (
	"bytes"
	"context"
	"math"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Expiry by itself frees nothing (R7): a read treats an expired record as absent. A sweep of the
// index collects expired records: it removes the key from the index without a tombstone, and the
// record's slot stays allocated until a checkpoint frozen later has flipped. Until then a recovery
// may find the record again. It has expired then as well, and it hides older versions of its key.
//
// The sweep visits only those stretches of the index that may have expired keys. It runs before
// checkpoints and, for an idle store, once a minute. It visits a few leaves at a time and reads the
// records whose references have the expiry flag.

const (
	sweepLeaves   = 16   // visited while the turn is held
	sweepRemovals = 128  // removed while the turn is held
	sweepPerFlip  = 4096 // leaves visited before a background checkpoint

	// sweepEvery is the interval of sweeps in an idle store, which takes no checkpoints.
	sweepEvery = time.Minute
)

// sweepIdle collects some expired records, and takes the checkpoint that frees them. If nothing is
// due it only reads the clock.
func (db *DB) sweepIdle() {
	before := db.collectedSoFar()
	if db.failure.Load() != nil {
		return
	}
	err := db.collectExpired(context.Background(), sweepPerFlip)
	if err == nil && db.collectedSoFar() != before {
		err = db.checkpoint(context.Background())
	}
	if err != nil {
		db.opt.Logger.Warn("collecting what has expired", "error", err)
	}
}

func (db *DB) collectedSoFar() uint64 {
	defer db.standstill()()
	return db.sweep.collected
}

// collectExpired continues the sweep for about this many leaves, or until nothing is due.
func (db *DB) collectExpired(ctx context.Context, leaves int) (err error) {
	defer db.guarded("collect", panicOnFault(true), &err)
	for at := db.now(); leaves > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := db.collectSome(at, min(leaves, sweepLeaves))
		if n == 0 || err != nil {
			return err
		}
		leaves -= n
	}
	return nil
}

// collectSome visits some leaves and returns how many. 0 means that nothing is due.
func (db *DB) collectSome(at int64, leaves int) (visited int, err error) {
	db.turn.visit()
	defer db.turn.give()
	if db.writable() != nil {
		return 0, nil
	}
	db.lockReaders()
	defer db.unlockReaders()
	if !db.sweep.pick(at) {
		return 0, nil
	}
	keys, visited, err := db.visitInside(at, leaves)
	if err != nil {
		db.sweep.giveUp()
		return 0, err
	}
	if len(keys) > 0 {
		db.pinWriter()
	}
	for _, k := range keys {
		if err := db.collect(k); err != nil {
			return 0, err
		}
	}
	return visited, nil
}

// visitInside calls visit in a section.
func (db *DB) visitInside(at int64, leaves int) ([][]byte, int, error) {
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	return db.visit(at, leaves)
}

// visit continues the visit of a stretch for at most leaves leaves. It returns the keys that have
// expired, and how many leaves it passed.
func (db *DB) visit(at int64, leaves int) (keys [][]byte, visited int, err error) {
	sw := &db.sweep
	c := btree.NewCursor(&db.ix, false)
	for _, err = c.Seek(db.ix.Root(), sw.from); err == nil && c.Valid(); err = c.Next() {
		if visited == 0 || c.At() == 0 {
			key, err := c.Key()
			switch {
			case err != nil:
				return nil, 0, err
			case sw.beyond(key):
				sw.end()
				return keys, max(visited, 1), nil
			case sw.leaves == stretchLeaves:
				if err := sw.goOn(key, &c); err != nil {
					return nil, 0, err
				}
				sw.split(key)
				return keys, max(visited, 1), nil
			case visited == leaves:
				return keys, visited, sw.goOn(key, &c)
			}
			visited++
			sw.leaves++
			sw.visited++
		}
		if c.Ref()&btree.RefTTL == 0 {
			continue
		}
		expiry, ok := db.expiryOf(c.Ref())
		switch {
		case !ok:
		case expiry > at:
			sw.left = earlier(sw.left, expiry)
		default:
			key, err := c.Key()
			if err != nil {
				return nil, 0, err
			}
			if len(keys) == sweepRemovals {
				sw.leaves-- // the next visit passes it again
				return keys, visited, sw.goOn(key, &c)
			}
			keys = append(keys, key)
		}
	}
	if err == nil {
		sw.end()
	}
	return keys, max(visited, 1), err
}

// goOn makes the visit continue at the key of c. The key must be above the one at which the visit
// continued last; otherwise the visit might not end.
func (sw *sweep) goOn(key []byte, c *btree.Cursor) error {
	if bytes.Compare(key, sw.from) <= 0 {
		return c.Misplaced()
	}
	sw.from = key
	return nil
}

// expiryOf returns the expiry of the record at x, or false if it is damaged.
func (db *DB) expiryOf(x btree.Ref) (int64, bool) {
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil {
		return 0, false
	}
	return rec.Expiry, true
}

// collect removes an expired key from the index. It writes no record.
func (db *DB) collect(key []byte) error {
	n := db.ix.PlanOne(0, true)
	if err := db.roomFor(n.Pages + n.Blocks); err != nil {
		return err
	}
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	if err := db.ix.Reserve(n.Pages, n.Blocks, true); err != nil {
		return err
	}
	defer db.ix.KeepStock()
	if err := db.ix.Find(key, &db.way); err != nil || !db.way.Found() {
		return err
	}
	return db.change(func() error {
		old, err := db.hashRemove(key, func() (btree.Ref, error) { return db.ix.Remove(&db.way) })
		if err != nil {
			return db.fail(err)
		}
		db.keys--
		db.sweep.collected++
		db.dirtySince = true
		db.expire(old)
		db.reclaimBeside(1)
		return nil
	})
}

// expire removes an expired record from the slots that the index reaches. The record goes to the
// snapshots that see it, and then waits for a checkpoint (R7).
func (db *DB) expire(x btree.Ref) {
	db.account(db.r.ClearLive(btree.RefOff(x)))
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil {
		return // damaged: its slot stays allocated, and Check reports it
	}
	db.holders.deadRecord(db.holders.newest, deadRecord{x | btree.RefHeld, rec.Number, db.clearLive(&rec)})
}

// makeRoom collects all expired records and takes a checkpoint, which frees the space of deletes.
func (db *DB) makeRoom(ctx context.Context) error {
	if err := db.collectExpired(ctx, math.MaxInt); err != nil {
		db.opt.Logger.Warn("collecting what has expired", "error", err)
	}
	return db.checkpoint(ctx)
}
