package kv

import (
	"context"
	"math"
	"time"
)

// Expiry frees nothing by itself (R7): a read takes an expired record for
// absent. A sweep over the index collects what has expired: it takes the key
// out of the index without a tombstone, and the record's slot stays allocated
// until a checkpoint that was frozen later has flipped. Until then a recovery
// may find the record again; it is expired then as well, and masks the older
// versions of its key.
//
// The sweep visits stretches of the index where something may have expired, and
// no others. It runs before checkpoints, a few leaves at a time, and reads of
// them the records whose entries say that they may expire.

const (
	sweepLeaves   = 16   // visited while the turn is held
	sweepRemovals = 128  // likewise
	sweepPerFlip  = 4096 // leaves visited before a checkpoint of the background
)

// PutTTL stores a value that is absent once ttl has passed from now by the wall
// clock. A later Put of the key clears the expiry; a ttl of 0 or less is Delete.
// A transaction judges expiry by when it began, so what it sees does not shrink.
func (db *DB) PutTTL(key, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return db.Delete(key)
	}
	if err := checkSizes(len(key), len(value)); err != nil {
		return err
	}
	return db.single(kindPut, key, value, expiryAfter(now(), ttl))
}

// expiryAfter returns when a time to live ends, in Unix nanoseconds.
func expiryAfter(at int64, ttl time.Duration) int64 {
	if int64(ttl) > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + int64(ttl)
}

// earlier returns the earlier of two expiries, of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// collectExpired goes on with the sweep for about so many leaves, or until nothing
// can have expired.
func (db *DB) collectExpired(ctx context.Context, leaves int) (err error) {
	defer db.guarded("collect", panicOnFault(true), &err)
	for at := now(); leaves > 0; {
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
// to do, or when a writable Tx is open: it must not see the tree change.
func (db *DB) collectSome(at int64, leaves int) (visited int, err error) {
	if db.txs.writer.Load() != nil {
		return 0, nil
	}
	db.turn.hold()
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
	for _, k := range keys {
		if err := db.collect(k); err != nil {
			return 0, err
		}
	}
	return visited, nil
}

// visitInside is visit in a section.
func (db *DB) visitInside(at int64, leaves int) ([][]byte, int, error) {
	db.inside = db.pages.beginInside()
	defer db.endInside()
	return db.visit(at, leaves)
}

// visit goes on with the visit of a stretch, through some leaves at most, and
// returns the keys that it found expired and how many leaves it passed.
func (db *DB) visit(at int64, leaves int) (keys [][]byte, visited int, err error) {
	sw := &db.sweep
	c := cursor{ix: &db.ix}
	for _, err = c.seek(db.ix.root, sw.from); err == nil && c.valid; err = c.next() {
		if visited == 0 || c.at() == 0 {
			key, err := c.key()
			switch {
			case err != nil:
				return nil, 0, err
			case sw.beyond(key):
				sw.end()
				return keys, max(visited, 1), nil
			case sw.leaves == stretchLeaves:
				sw.split(key)
				return keys, max(visited, 1), nil
			case visited == leaves:
				sw.from = key
				return keys, visited, nil
			}
			visited++
			sw.leaves++
			sw.visited++
		}
		if c.ref()&refTTL == 0 {
			continue
		}
		expiry, ok := db.expiryOf(c.ref())
		switch {
		case !ok:
		case expiry > at:
			sw.left = earlier(sw.left, expiry)
		default:
			key, err := c.key()
			if err != nil {
				return nil, 0, err
			}
			if len(keys) == sweepRemovals {
				sw.from = key
				sw.leaves-- // it will be passed again
				return keys, visited, nil
			}
			keys = append(keys, key)
		}
	}
	if err == nil {
		sw.end()
	}
	return keys, max(visited, 1), err
}

// expiryOf returns when the record at x expires; false where it is damaged.
func (db *DB) expiryOf(x ref) (int64, bool) {
	var rec record
	if db.readRecord(refOff(x), &rec) != nil {
		return 0, false
	}
	return rec.expiry, true
}

// collect takes an expired key out of the index. It writes no record.
func (db *DB) collect(key []byte) error {
	es := [1]entry{{key: key}}
	pages, blocks := db.pagesFor(es[:])
	if err := db.roomFor(pages + blocks); err != nil {
		return err
	}
	db.inside = db.pages.beginInside()
	defer db.endInside()
	if err := db.ix.reserve(pages, blocks, true); err != nil {
		return err
	}
	if err := db.ix.find(key, &db.way); err != nil || !db.way.found {
		return err
	}
	db.publish.Lock()
	defer db.publish.Unlock()
	old, err := db.ix.remove(&db.way)
	if err != nil {
		return db.fail(err)
	}
	db.keys--
	db.sweep.collected++
	db.dirtySince = true
	db.expire(old)
	db.reclaim()
	return nil
}

// expire takes an expired record out of what the index reaches. It goes to the
// snapshots that see it, and then waits for a checkpoint (R7).
func (db *DB) expire(x ref) {
	db.r.ClearLive(refOff(x))
	var rec record
	if db.readRecord(refOff(x), &rec) != nil {
		return // damaged meanwhile: its slot stays allocated, Check names it
	}
	bytes := int64(rec.size)
	if x&refSpill != 0 {
		_, list := rec.extents()
		for _, e := range list {
			db.r.ClearLiveRun(e)
			bytes += e.Bytes
		}
	}
	db.holders.deadRecord(db.holders.newest, deadRecord{x | refHeld, rec.number, bytes})
}

// makeRoom frees what can be freed: what has expired, and what deletes left.
func (db *DB) makeRoom(ctx context.Context) error {
	if err := db.collectExpired(ctx, math.MaxInt); err != nil {
		db.opt.Logger.Warn("collecting what has expired", "error", err)
	}
	return db.checkpoint(ctx)
}
