package kv

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"
)

// testClock is a clock that shows the time to which it is set.
type testClock struct{ at atomic.Pointer[time.Time] }

func clockAt(t time.Time) *testClock {
	c := new(testClock)
	c.set(t)
	return c
}

func (c *testClock) set(t time.Time)         { c.at.Store(&t) }
func (c *testClock) forward(d time.Duration) { c.set(c.now().Add(d)) }
func (c *testClock) now() time.Time          { return *c.at.Load() }

func openClocked(t *testing.T, c *testClock) *DB {
	t.Helper()
	db, err := Open("", &Options{Device: "mem", Clock: c.now})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// expiryOfAll returns the expiry of every key, which a cursor and Expiry of DB and Tx must agree
// on.
func expiryOfAll(t *testing.T, db *DB) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	must(t, db.View(func(tx *Tx) error {
		c := tx.Cursor()
		for c.Next() {
			k := string(c.Key())
			out[k] = c.Expiry()
			inTx, err := tx.Expiry(c.Key())
			must(t, err)
			ofDB, err := db.Expiry(c.Key())
			must(t, err)
			if !inTx.Equal(out[k]) || !ofDB.Equal(out[k]) {
				t.Errorf("%q expires at %v by the cursor, %v by the Tx, %v by the DB", k, out[k], inTx, ofDB)
			}
		}
		if !c.Expiry().IsZero() {
			t.Error("a cursor that stands nowhere has an expiry")
		}
		return c.Err()
	}))
	return out
}

func wantExpiries(t *testing.T, got, want map[string]time.Time) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d: %v", len(got), len(want), got)
	}
	for k, w := range want {
		if g, ok := got[k]; !ok || !g.Equal(w) || g.IsZero() != w.IsZero() {
			t.Errorf("%q expires at %v, %v; want %v", k, g, ok, w)
		}
	}
}

// TestPutUntil stores a value with an expiry in every way, at every kind of time, and reads the
// expiry again.
func TestPutUntil(t *testing.T) {
	clock := clockAt(time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC))
	now := clock.now()
	last := time.Unix(0, math.MaxInt64)
	moments := map[string]time.Time{
		"for ever": {}, "a nanosecond": now.Add(1), "an hour": now.Add(time.Hour).In(time.FixedZone("", 3600)),
		"the last": last, "behind the last": last.Add(1), "year 9999": time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		"now": now, "before": now.Add(-1), "1970": time.Unix(0, 0), "1969": time.Unix(-1, 0), "year 1": time.Time{}.Add(1),
	}
	want := map[string]time.Time{
		"for ever": {}, "a nanosecond": now.Add(1), "an hour": now.Add(time.Hour), "the last": last, "behind the last": {}, "year 9999": {},
	}
	put := map[string]func(*DB, string, time.Time) error{
		"DB": func(db *DB, k string, at time.Time) error { return db.PutUntil([]byte(k), []byte("v"), at) },
		"Tx": func(db *DB, k string, at time.Time) error {
			return db.Update(func(tx *Tx) error {
				if err := tx.PutUntil([]byte(k), []byte("v"), at); err != nil {
					return err
				}
				got, err := tx.Expiry([]byte(k))
				if w, stored := want[k]; stored && (err != nil || !got.Equal(w)) || !stored && err != ErrNotFound {
					t.Errorf("the Tx itself: %q expires at %v, %v", k, got, err)
				}
				return nil
			})
		},
		"Batch": func(db *DB, k string, at time.Time) error {
			b := db.NewBatch()
			b.PutUntil([]byte(k), []byte("v"), at)
			return db.Write(b)
		},
		"Batch with a range": func(db *DB, k string, at time.Time) error {
			b := db.NewBatch()
			b.DeleteRange([]byte(k), []byte(k+"\x00"))
			b.PutUntil([]byte(k), []byte("v"), at)
			return db.Write(b)
		},
	}
	for way, put := range put {
		db := openClocked(t, clock)
		for k, at := range moments {
			must(t, db.Put([]byte(k), []byte("before")))
			must(t, put(db, k, at))
		}
		got := expiryOfAll(t, db)
		t.Log(way)
		wantExpiries(t, got, want)
		_, err := db.Expiry([]byte("now"))
		wantErr(t, way+": Expiry of a key that is gone", err, ErrNotFound)
		must(t, db.Put([]byte("an hour"), []byte("v")))
		at, err := db.Expiry([]byte("an hour"))
		if err != nil || !at.IsZero() {
			t.Errorf("%s: a later Put leaves the expiry %v, %v", way, at, err)
		}
		mustCheck(t, db)
	}
}

// TestClock: every read uses Options.Clock, even outside the years that a record can store.
func TestClock(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := clockAt(start)
	db := openClocked(t, clock)
	must(t, db.PutTTL([]byte("ttl"), []byte("v"), time.Minute))
	must(t, db.PutUntil([]byte("until"), []byte("v"), start.Add(time.Minute)))
	b := db.NewBatch()
	b.PutTTL([]byte("batch"), []byte("v"), time.Minute)
	must(t, db.Write(b))
	must(t, db.Update(func(tx *Tx) error { return tx.PutTTL([]byte("tx"), []byte("v"), time.Minute) }))
	all := model{"ttl": "v", "until": "v", "batch": "v", "tx": "v"}
	at := start.Add(time.Minute)
	wantExpiries(t, expiryOfAll(t, db), map[string]time.Time{"ttl": at, "until": at, "batch": at, "tx": at})
	clock.set(at.Add(-1))
	all.compare(t, db)
	snapshot, err := db.Begin(false)
	must(t, err)
	clock.set(at)
	model{}.compare(t, db)
	must(t, db.Checkpoint(context.Background()))
	if n := db.Metrics().Expired; n != 4 {
		t.Errorf("%d collected, want 4", n)
	}
	if got := keysWithValues(snapshot); len(got) != 4 {
		t.Errorf("the snapshot has %d keys", len(got))
	}
	must(t, snapshot.Rollback())

	for _, odd := range []time.Time{{}, time.Unix(-5, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		clock.set(odd)
		must(t, db.PutTTL([]byte("odd"), []byte("v"), time.Minute))
		if _, err := db.Get([]byte("odd")); err != nil {
			t.Errorf("stored for a minute when the clock shows %v: %v", odd, err)
		}
	}
}

// TestBatchReplayUntil: a batch passes on its operations as they were added, so that they can be
// written elsewhere.
func TestBatchReplayUntil(t *testing.T) {
	clock := clockAt(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	now := clock.now()
	db := openClocked(t, clock)
	b := db.NewBatch()
	b.PutUntil([]byte("a"), []byte("v"), now.Add(time.Hour))
	b.PutTTL([]byte("b"), []byte("v"), time.Minute)
	b.Put([]byte("c"), []byte("v"))
	b.PutUntil([]byte("d"), []byte("v"), now.Add(time.Second))
	b.PutUntil([]byte("e"), []byte("v"), now.Add(-time.Hour))
	clock.forward(time.Second)
	exact, left := db.NewBatch(), db.NewBatch()
	b.ReplayUntil(func(key, value []byte, ttl time.Duration, expiry time.Time) {
		if ttl != 0 {
			exact.PutTTL(key, value, ttl)
		} else {
			exact.PutUntil(key, value, expiry)
		}
	}, exact.Delete, exact.DeleteRange)
	b.Replay(func(key, value []byte, ttl time.Duration) {
		if ttl > 0 {
			left.PutTTL(key, value, ttl)
		} else {
			left.Put(key, value)
		}
	}, left.Delete, left.DeleteRange)
	want := map[string]time.Time{"a": now.Add(time.Hour), "b": clock.now().Add(time.Minute), "c": {}}
	for _, replayed := range []*Batch{b, exact, left} {
		must(t, db.DeleteRange(nil, nil))
		if replayed.Len() != 5 {
			t.Errorf("%d operations, want 5", replayed.Len())
		}
		must(t, db.Write(replayed))
		wantExpiries(t, expiryOfAll(t, db), want)
	}
	b.Replay(nil, nil, nil)
}

// TestCursorExpiry: in a writable Tx a cursor returns the expiry of its key.
func TestCursorExpiry(t *testing.T) {
	clock := clockAt(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	at := clock.now().Add(time.Hour)
	db := openClocked(t, clock)
	must(t, db.PutUntil([]byte("a"), []byte("v"), at))
	must(t, db.PutUntil([]byte("b"), []byte("v"), at))
	must(t, db.Update(func(tx *Tx) error {
		must(t, tx.PutUntil([]byte("b"), []byte("v"), at.Add(1)))
		must(t, tx.Put([]byte("c"), []byte("v")))
		c := tx.Cursor()
		for _, want := range []time.Time{at, at.Add(1), {}} {
			if !c.Next() || !c.Expiry().Equal(want) {
				t.Errorf("%q expires at %v, want %v", c.Key(), c.Expiry(), want)
			}
		}
		return c.Close()
	}))
}
