package kv

import (
	"bytes"
	"context"
	"math"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Expiry frees nothing by itself (R7): a read takes an expired record for
// absent. A sweep over the index collects what has expired: it takes the key
// out of the index without a tombstone, and the record's slot stays allocated
// until a checkpoint that was frozen later has flipped. Until then a recovery
// may find the record again; it is expired then as well, and masks the older
// versions of its key.
//
// The sweep visits stretches of the index where something may have expired, and
// no others. It runs before checkpoints, and once a minute for a store that nobody
// writes, a few leaves at a time, and reads of
// them the records whose entries say that they may expire.

const (
	sweepLeaves   = 16   // visited while the turn is held
	sweepRemovals = 128  // likewise
	sweepPerFlip  = 4096 // leaves visited before a checkpoint of the background

	// sweepEvery is how often a store looks whether something has expired that no
	// checkpoint is about to collect, because nobody writes.
	sweepEvery = time.Minute
)

// sweepIdle collects some of what has expired, and takes the checkpoint that frees it.
// Where nothing is due it reads nothing but the clock.
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

// collectExpired goes on with the sweep for about so many leaves, or until nothing
// can have expired.
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

// collectSome visits some leaves and returns how many; 0 when there is nothing
// to do.
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
		db.sweep.give()
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

// visitInside is visit in a section.
func (db *DB) visitInside(at int64, leaves int) ([][]byte, int, error) {
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	return db.visit(at, leaves)
}

// visit goes on with the visit of a stretch, through some leaves at most, and
// returns the keys that it found expired and how many leaves it passed.
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
				sw.leaves-- // it will be passed again
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

// goOn has the visit go on from the key that c stands on, which comes behind where it
// began: else it might not end.
func (sw *sweep) goOn(key []byte, c *btree.Cursor) error {
	if bytes.Compare(key, sw.from) <= 0 {
		return c.Misplaced()
	}
	sw.from = key
	return nil
}

// expiryOf returns when the record at x expires; false where it is damaged.
func (db *DB) expiryOf(x btree.Ref) (int64, bool) {
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil {
		return 0, false
	}
	return rec.Expiry, true
}

// collect takes an expired key out of the index. It writes no record.
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
		old, err := db.ix.Remove(&db.way)
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

// expire takes an expired record out of what the index reaches. It goes to the
// snapshots that see it, and then waits for a checkpoint (R7).
func (db *DB) expire(x btree.Ref) {
	db.account(db.r.ClearLive(btree.RefOff(x)))
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil {
		return // damaged meanwhile: its slot stays allocated, Check names it
	}
	db.holders.deadRecord(db.holders.newest, deadRecord{x | btree.RefHeld, rec.Number, db.clearLive(&rec)})
}

// makeRoom frees what can be freed: what has expired, and what deletes left.
func (db *DB) makeRoom(ctx context.Context) error {
	if err := db.collectExpired(ctx, math.MaxInt); err != nil {
		db.opt.Logger.Warn("collecting what has expired", "error", err)
	}
	return db.checkpoint(ctx)
}
