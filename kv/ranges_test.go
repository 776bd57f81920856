package kv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"nvkv/kv/internal/record"
)

// TestDeleteRangeCost: the bytes that a range costs the medium do not depend on the number of its
// keys.
func TestDeleteRangeCost(t *testing.T) {
	for _, keys := range []int{10, 20_000} {
		db := openTest(t, filepath.Join(testDir(t), "s"), nil)
		b := db.NewBatch()
		for i := range keys {
			b.Put(fmt.Appendf(nil, "%06d", i), []byte("value"))
		}
		must(t, db.Write(b))
		before := db.Metrics()
		must(t, db.DeleteRange([]byte("0"), []byte("1")))
		after := db.Metrics()
		if n := after.RecordBytes - before.RecordBytes; n != record.HeaderBytes+2 {
			t.Errorf("%d keys: %d bytes of records, want %d", keys, n, record.HeaderBytes+2)
		}
		if n := after.Commits - before.Commits; n != 1 {
			t.Errorf("%d keys: %d commits", keys, n)
		}
		if after.Keys != 0 || after.Tombstones != 1 {
			t.Errorf("%d keys: %d left, %d tombstones", keys, after.Keys, after.Tombstones)
		}
		before = db.Metrics()
		must(t, db.DeleteRange([]byte("0"), nil))
		if n := db.Metrics().Fences - before.Fences; n != 0 {
			t.Errorf("a range without keys: %d fences", n)
		}
		mustCheck(t, db)
	}
}

// R6: if the tombstone of a range is freed at once and its slot reused, the deleted keys come back.
func TestR6_RangesOutliveWhatTheyDelete(t *testing.T) {
	for name, off := range map[string]rules{"commit": ruleR6, "recovery": ruleR6Recovery} {
		t.Run(name, func(t *testing.T) {
			tellTwice(t, off, func(s *session) error {
				steps := []func() error{func() error {
					return s.do(put("keep", "1"), put("a", elsewhere[:600]), put("b", elsewhere[:600]), delRange("a", "c"))
				}}
				if off == ruleR6Recovery {
					steps = append(steps, func() error { return s.reopen(false) })
				}
				for i := range 150 { // until the slot of the range is reused
					steps = append(steps, func() error { return s.do(put("x", fmt.Sprint(i%10))) })
				}
				return script(append(steps, func() error { return s.doCrashing(false, put("y", "1")) })...)
			})
		})
	}
}

// I12: a range deletes older records, in the checkpoint's tree and beside it, and no newer ones, in
// its own transaction or later.
func TestI12_RangesDeleteWhatIsOlder(t *testing.T) {
	tellTwice(t, ruleI12, func(s *session) error {
		return script(
			func() error { return s.do(put("a", "1"), put("b", "1"), put("c", "1"), put("e", "1")) },
			s.checkpoint,
			func() error { return s.do(put("b", "2"), put("d", "2")) },
			func() error {
				return s.doCrashing(false, put("a", "3"), delRange("a", "e"), put("c", "3"))
			},
			func() error { return s.doCrashing(false, put("b", "4"), delRange("c", "cc"), del("e")) },
			func() error { return s.reopen(false) },
			func() error { return s.doCrashing(false, delRange("", "z")) },
			func() error { return s.reopen(false) },
		)
	})
}

// TestRangesPaint compares the stretches with a search of all ranges.
func TestRangesPaint(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		var all []deletedRange
		for n := range 1 + rng.IntN(12) {
			a, b := rng.IntN(20), rng.IntN(20)
			d := deletedRange{rangeAge: rangeAge{record.Number(1 + rng.IntN(4)), uint32(n)}, start: fmt.Appendf(nil, "%02d", min(a, b))}
			if rng.IntN(8) > 0 {
				d.end = fmt.Appendf(nil, "%02d", max(a, b)+1)
			}
			all = append(all, d)
		}
		r := paint(slices.Clone(all))
		for range 200 {
			key := fmt.Appendf(nil, "%02d", rng.IntN(24))
			at := rangeAge{record.Number(rng.IntN(6)), uint32(rng.IntN(13))}
			want := false
			for _, d := range all {
				want = want || at.older(d.rangeAge) && string(d.start) <= string(key) && inside(key, d.end)
			}
			if got := r.cover(key, at.number, at.ordinal); got != want {
				t.Fatalf("%s written at %v: covered %v, want %v by %v", key, at, got, want, all)
			}
		}
	}
}

// TestDeleteRangeReplay deletes ranges among many keys before and after a checkpoint, and recovers.
func TestDeleteRangeReplay(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db, err := Open(path, nil)
	must(t, err)
	want := model{}
	rng := rand.New(rand.NewPCG(7, 8))
	key := func() string { return fmt.Sprintf("%05d", rng.IntN(20_000)) }
	for round := range 12 {
		var changes []change
		for range 2000 {
			ch := put(key(), fmt.Sprint(round))
			if rng.IntN(400) == 0 {
				from := key()
				ch = delRange(from, from[:3]+"99")
			}
			changes = append(changes, ch)
		}
		must(t, db.Write(batchOf(changes)))
		want = want.with(changes)
		if round == 5 {
			must(t, db.Checkpoint(context.Background()))
		}
		if round%4 == 3 {
			abandonFile(t, db)
			db, err = Open(path, nil)
			must(t, err)
			want.compare(t, db)
			mustCheck(t, db)
		}
	}
	must(t, db.Close())
}
