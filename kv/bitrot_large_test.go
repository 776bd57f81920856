package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/internal/effort"
)

// bigStore is a store that is too large for a second copy of its values: the number and the version
// of a key determine its value.
type bigStore struct {
	image   []byte
	keys    []bigState
	changed int    // key that the last commit changed; none if the store was closed
	was     uint32 // its previous version
}

// bigState is the state of a key. Versions count from 1, and 0 is absence.
type bigState struct {
	now  uint32
	last uint32 // its newest version so far
}

func bigKey(i int) []byte { return fmt.Appendf(nil, "key%08d", i) }

// bigValue returns version v of key i.
func bigValue(i int, v uint32) []byte {
	size := 40 + int((uint64(i)*2654435761+uint64(v)*40503)>>4%220)
	switch {
	case i%500 == 0:
		size = 60_000
	case i%50 == 0:
		size = 3000
	}
	p := make([]byte, 0, size+24)
	p = fmt.Appendf(p, "%d:%d:", i, v)
	return append(p, bytes.Repeat([]byte{byte(i + int(v))}, size)...)
}

// newBigStore writes n keys, updates and deletes some, takes a checkpoint, does the same again, and
// is closed or dies.
func newBigStore(t testing.TB, m *rotMedium, n int, closed bool) *bigStore {
	t.Helper()
	s := &bigStore{keys: make([]bigState, n)}
	db, err := OpenDevice(m, &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40})
	must(t, err)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	set := func(i int) {
		k := &s.keys[i]
		s.changed, s.was = i, k.now
		k.last++
		k.now = k.last
		must(t, db.Put(bigKey(i), bigValue(i, k.now)))
	}
	for _, i := range rng.Perm(n) {
		set(i)
	}
	change := func(n int) {
		for range n {
			if i := rng.IntN(len(s.keys)); rng.IntN(4) > 0 {
				set(i)
			} else if s.keys[i].now > 0 {
				must(t, db.Delete(bigKey(i)))
				s.changed, s.was = i, s.keys[i].now
				s.keys[i].now = 0
			}
		}
	}
	change(n / 4)
	must(t, db.Checkpoint(context.Background()))
	change(n / 8)
	if closed {
		must(t, db.Close())
		s.changed = -1
	} else {
		abandon(db)
	}
	s.image = m.bytes(t)
	return s
}

// judge says whether value is possible for key i; nil means absent.
func (s *bigStore) judge(i int, value []byte) (stale bool, err error) {
	is := func(v uint32) bool {
		if v == 0 || value == nil {
			return v == 0 && value == nil
		}
		return bytes.Equal(value, bigValue(i, v))
	}
	switch {
	case is(s.keys[i].now):
		return false, nil
	case i == s.changed && is(s.was):
		return true, nil
	}
	return false, fmt.Errorf("%s = %.40q, which it does not hold", bigKey(i), value)
}

// read reads the store in order, and by single keys the part that this did not reach.
func (s *bigStore) read(db *DB, d *damaged) error {
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	i := 0
	answer := func(value []byte) error {
		stale, err := s.judge(i, value)
		if stale {
			d.stale++
		}
		i++
		return err
	}
	for k, v := range tx.All(nil, nil) {
		for ; i < len(s.keys) && !bytes.Equal(k, bigKey(i)); err = firstErr(err, answer(nil)) {
		}
		if i == len(s.keys) {
			return fmt.Errorf("iteration: %.40q, or it is out of order", k)
		}
		if err = firstErr(err, answer(v)); err != nil {
			return fmt.Errorf("iteration: %w", err)
		}
	}
	broken := tx.Err()
	if err := d.tell(broken); err != nil {
		return fmt.Errorf("iteration: %w", err)
	}
	for i < len(s.keys) && err == nil {
		if broken == nil {
			err = answer(nil)
			continue
		}
		v, e := db.Get(bigKey(i))
		switch {
		case e == nil:
			err = answer(v)
		case errors.Is(e, ErrNotFound):
			err = answer(nil)
		default:
			err = d.tell(e)
			i++
		}
	}
	return err
}

// spoil is rotMedium.judge for a large store.
func (s *bigStore) spoil(m *rotMedium, at int, bits byte) (verdict, error) {
	var d damaged
	if err := firstErr(m.restore(), m.spoil(at, bits)); err != nil {
		return 0, err
	}
	var db *DB
	err := guarded(func() (err error) { db, err = OpenDevice(m, rotOptions()); return err })
	if err != nil {
		return refused, d.tell(err)
	}
	defer abandon(db)
	if err := db.View(func(*Tx) error { return nil }); err != nil { // the replay is part of the opening (I17)
		return refused, d.tell(err)
	}
	err = guarded(func() error { return firstErr(s.read(db, &d), d.check(db), d.write(db)) })
	switch {
	case err != nil:
		return 0, err
	case len(d.places) > 0:
		return reported, nil
	case d.stale > 0:
		return undone, nil
	}
	return harmless, nil
}

// TestBitFlipsLarge inverts random bits of a large store: in the full form 40 in a store of some 10
// MB, in the long form 400 in one of 300,000 records.
func TestBitFlipsLarge(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	records, flips := effort.Pick(5_000, 5_000, 20_000, 300_000), effort.Pick(20, 20, 40, 400)
	const seed = 4
	for _, closed := range []bool{true, false} {
		t.Run(map[bool]string{true: "closed", false: "died"}[closed], func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m := newRotMedium(t, 512<<20)
			s := newBigStore(t, m, records, closed)
			m.hold(t, s.image)
			var counts [verdicts]int
			for range flips {
				at, bits := rng.IntN(len(s.image)), byte(1)<<rng.IntN(8)
				v, err := s.spoil(m, at, bits)
				if err != nil {
					t.Fatalf("seed %d, flip at %#x of %08b: %v", seed, at, bits, err)
				}
				counts[v]++
			}
			t.Logf("%d records, %d bytes, seed %d: %d flips: %d not opened, %d reported, %d undone, %d harmless", records, len(s.image), seed,
				flips, counts[refused], counts[reported], counts[undone], counts[harmless])
			if counts[reported] == 0 || closed && counts[undone] > 0 {
				t.Error("nothing was reported, or a store that was closed lost something without saying so")
			}
		})
	}
}
