package kv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// TestLargeValueFitsWhatIsFree: a store of records of random sizes, many of which were deleted,
// takes a value as large as its free space, except the room kept for deletes and a little more.
// Records in the way are moved before a value is refused.
func TestLargeValueFitsWhatIsFree(t *testing.T) {
	skipInRace(t)
	for seed := range uint64(effort.Pick(3, 3, 40, 300)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 5))
			bound := int64(12+rng.IntN(12)) << 20
			db, err := OpenDevice(nvmap.NewMem(bound), &Options{EvacuateBytes: -1})
			must(t, err)
			defer db.Close()
			m := model{}
			most := []int{70_000, 3000, 20_000, 300, 200_000}[seed%5]
			for i := 0; ; i++ { // almost full
				k := fmt.Sprint("key", i)
				v := fmt.Sprint(i) + string(make([]byte, rng.IntN(most)))
				if err := db.Put([]byte(k), []byte(v)); full(err) {
					break
				} else {
					must(t, err)
				}
				m[k] = v
			}
			part := 1 + rng.IntN(8)
			for _, k := range slices.Sorted(maps.Keys(m)) {
				if rng.IntN(8) < part {
					must(t, db.Delete([]byte(k)))
					delete(m, k)
				}
			}
			must(t, db.Checkpoint(t.Context()))
			free := roomForRuns(db)
			size := free - 512<<10
			if size <= 0 {
				return
			}
			v := make([]byte, size)
			if err := db.Put([]byte("large"), v); err != nil {
				t.Errorf("records of up to %d bytes, %d of 8 deleted: %d bytes were free, a value of %d was refused: %v", most, part, free, size, err)
			} else {
				m["large"] = string(v)
			}
			m.compare(t, db)
			mustCheck(t, db)
		})
	}
}

// roomForRuns returns how many bytes of values a store must take, if everything in the way is
// moved. It leaves out the room kept for deletes, a slab of each slot size, and an eighth of the
// slabs of which less than an eighth is free.
func roomForRuns(db *DB) (n int64) {
	_ = db.withTurn(func() error {
		slabs := db.Info().MaxBytes / int64(db.r.SlabBytes())
		slabs -= slabs/alloc.DefaultGroupSlabs + 3 // metadata
		classes := map[alloc.ClassID]bool{}
		for s := range db.r.Slabs() {
			if s.Kind == alloc.KindRecord {
				classes[s.Class] = true
			}
		}
		slabs -= int64(len(classes))
		n = slabs*int64(db.r.SlabBytes()) - db.r.Used() - db.r.Kept() - db.r.UsedIn(alloc.KindRecord)/8
		return nil
	})
	return n
}

// TestLargeValueBetweenDeleted: of many values of a slab each, every second one is deleted. A value
// of half of the freed bytes is stored, in a store that may grow and in one that may not.
func TestLargeValueBetweenDeleted(t *testing.T) {
	n := effort.Pick(160, 160, 160, 8000)
	for _, grows := range []bool{true, false} {
		t.Run(fmt.Sprintf("may grow %v", grows), func(t *testing.T) {
			bound := int64(n)*70_000 + 8<<20
			if grows {
				bound = 4 << 30
			}
			db, err := OpenDevice(nvmap.NewMem(bound), nil)
			must(t, err)
			defer db.Close()
			v := make([]byte, 64<<10)
			for i := range n {
				must(t, db.Put(fmt.Append(nil, i), v))
			}
			for i := 0; i < n; i += 2 {
				must(t, db.Delete(fmt.Append(nil, i)))
			}
			must(t, db.Put([]byte("large"), make([]byte, n/4*len(v))))
			mustCheck(t, db)
		})
	}
}
