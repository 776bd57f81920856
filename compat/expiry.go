package compat

import (
	"errors"
	"time"

	"nvkv/kv"
)

// ErrNoExpiry is the error for an operation with an expiry on an engine that is no [Expirer].
var ErrNoExpiry = errors.New("the engine keeps no expiries")

// An Expirer is an [Engine] whose entries may expire: they are absent from a given time on. It is
// optional; use a type assertion. nvkv is one, and applies Op.Expiry. bbolt and pebble are not. The
// zero time means never.
type Expirer interface {
	ExpiryReader

	// PutUntil stores a value until expiry. An expiry in the past makes it a Delete. See
	// kv.DB.PutUntil for one that is too far in the future.
	PutUntil(key, value []byte, expiry time.Time) error
}

// An ExpiryReader returns when entries expire. A [Reader] of an Expirer is one.
type ExpiryReader interface {
	// Expiry returns when key expires, the zero time for never, or ErrNotFound.
	Expiry(key []byte) (time.Time, error)

	// ScanExpiry is Scan with the expiry of each entry.
	ScanExpiry(start []byte, n int, fn func(key, value []byte, expiry time.Time) bool) error
}

// expires reports whether op needs an Expirer.
func (op *Op) expires() bool { return !op.Delete && !op.Expiry.IsZero() }

var (
	_ Expirer      = (*nvkvEngine)(nil)
	_ ExpiryReader = (*nvkvReader)(nil)
)

func (e *nvkvEngine) PutUntil(key, value []byte, expiry time.Time) error {
	return e.db.PutUntil(key, value, expiry)
}

func (e *nvkvEngine) Expiry(key []byte) (time.Time, error) { return e.db.Expiry(key) }

func (e *nvkvEngine) ScanExpiry(start []byte, n int, fn func(key, value []byte, expiry time.Time) bool) error {
	return e.db.View(func(tx *kv.Tx) error { return nvkvScanExpiry(tx, start, n, fn) })
}

func (r *nvkvReader) Expiry(key []byte) (time.Time, error) {
	if !r.gate.enter() {
		return time.Time{}, *r.ended.Load()
	}
	defer r.gate.leave()
	return r.tx.Expiry(key)
}

func (r *nvkvReader) ScanExpiry(start []byte, n int, fn func(key, value []byte, expiry time.Time) bool) error {
	if !r.gate.enter() {
		return *r.ended.Load()
	}
	defer r.gate.leave()
	return nvkvScanExpiry(r.tx, start, n, fn)
}

func nvkvScanExpiry(tx *kv.Tx, start []byte, n int, fn func(key, value []byte, expiry time.Time) bool) error {
	c := tx.Cursor()
	if n != 0 {
		for ok := c.Seek(start); ok && fn(c.Key(), c.Value(), c.Expiry()); ok = c.Next() {
			if n--; n == 0 {
				break
			}
		}
	}
	return c.Close()
}
