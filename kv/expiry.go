package kv

import (
	"math"
	"time"

	"nvkv/kv/internal/record"
)

// A record stores its expiry in nanoseconds since 1970, 0 for never. Times of the clock are clipped
// to the range of such a number: 1970 to 2262.

// lastExpiry is the latest time that a record can store.
var lastExpiry = time.Unix(0, math.MaxInt64)

// now returns the time by which records expire, in Unix nanoseconds.
func (o *Options) now() int64 {
	if o.Clock == nil {
		return time.Now().UnixNano()
	}
	return clockNanos(o.Clock())
}

func (db *DB) now() int64 { return db.opt.now() }

// clockNanos returns a time in Unix nanoseconds, clipped to the range of a record.
func clockNanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.After(lastExpiry):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// expiryAt returns a time as a record stores it, 0 for never. passed says that the time is not
// after now.
func expiryAt(t time.Time, now int64) (expiry int64, passed bool) {
	if t.IsZero() || t.After(lastExpiry) {
		return 0, false
	}
	expiry = clockNanos(t)
	return expiry, expiry <= now
}

// expiryAfter returns the end of a time to live that begins at now, as a record stores it. It
// returns 0, never, if the end is out of range.
func expiryAfter(now int64, ttl time.Duration) int64 {
	if int64(ttl) > math.MaxInt64-now {
		return 0
	}
	return now + int64(ttl)
}

// expiryTime is the inverse of expiryAt.
func expiryTime(expiry int64) time.Time {
	if expiry == 0 {
		return time.Time{}
	}
	return time.Unix(0, expiry)
}

// earlier returns the earlier of two expiries. 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// PutTTL stores a value that expires ttl from now by the wall clock. A later Put of the key clears
// the expiry. A ttl of 0 or less is a Delete. A ttl that ends after the year 2262 means never. A
// transaction compares expiries with the time when it began, so its state does not change.
func (db *DB) PutTTL(key, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return db.Delete(key)
	}
	return db.putExpiring(key, value, expiryAfter(db.now(), ttl))
}

// PutUntil stores a value that expires at a time of the wall clock. The zero time means never. So
// does any time after 2262-04-11 23:47:16.854775807 UTC, the last one that a record can store. A
// time that has passed is a Delete. See PutTTL.
func (db *DB) PutUntil(key, value []byte, expiry time.Time) error {
	at, passed := expiryAt(expiry, db.now())
	if passed {
		return db.Delete(key)
	}
	return db.putExpiring(key, value, at)
}

func (db *DB) putExpiring(key, value []byte, expiry int64) error {
	if err := checkSizes(len(key), len(value)); err != nil {
		return err
	}
	return db.single(record.KindPut, key, value, expiry)
}

// Expiry returns the time at which key expires, the zero time for never. If the key is absent the
// error is ErrNotFound. It reads no value that lies in runs.
func (db *DB) Expiry(key []byte) (at time.Time, err error) {
	err = db.View(func(tx *Tx) error {
		at, err = tx.Expiry(key)
		return err
	})
	return at, err
}

// Expiry is DB.Expiry of the state that the Tx sees.
func (tx *Tx) Expiry(key []byte) (at time.Time, err error) {
	s, err := tx.enter()
	if err != nil {
		return time.Time{}, err
	}
	defer tx.leaveGet(s)
	if n := tx.changed(key); n != nil {
		if n.kind == record.KindDelete {
			return time.Time{}, ErrNotFound
		}
		return expiryTime(n.expiry), nil
	}
	defer tx.db.guarded("expiry", panicOnFault(true), &err)
	rec, err := tx.db.recordAt(key, tx.root, tx.at)
	if err != nil {
		return time.Time{}, err
	}
	return expiryTime(rec.Expiry), nil
}

// PutTTL is Put of a value that expires ttl from now; see DB.PutTTL. The Tx itself sees it until it
// ends.
func (tx *Tx) PutTTL(key, value []byte, ttl time.Duration) error {
	if ttl <= 0 || tx.over() {
		return tx.Delete(key)
	}
	return tx.set(record.KindPut, key, value, expiryAfter(tx.db.now(), ttl))
}

// PutUntil is Put of a value that expires at a time; see DB.PutUntil. The Tx itself sees it until
// it ends.
func (tx *Tx) PutUntil(key, value []byte, expiry time.Time) error {
	if tx.over() {
		return tx.Delete(key)
	}
	at, passed := expiryAt(expiry, tx.db.now())
	if passed {
		return tx.Delete(key)
	}
	return tx.set(record.KindPut, key, value, at)
}

// Expiry returns the time at which the current key expires. It is the zero time for never, and if
// the cursor is not valid.
func (c *Cursor) Expiry() time.Time {
	if !c.Valid() {
		return time.Time{}
	}
	return expiryTime(c.expiry)
}
