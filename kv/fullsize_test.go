package kv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// TestFullStoresOfEverySize: what a store keeps for deletes grows in steps with the store, and
// the last step may find nothing left. Stores of many sizes, filled with records of many sizes,
// take a transaction of 100 deletes and then single deletes until they are empty. Seed 182 was
// refused its first delete.
func TestFullStoresOfEverySize(t *testing.T) {
	seeds := []uint64{182}
	for seed := range uint64(effort.Pick(0, 8, 60, 2000)) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 5))
			dev := keptDevice{nvmap.NewMem(int64(12+rng.IntN(12)) << 20)}
			most := []int{70_000, 3000, 20_000, 300, 200_000}[seed%5]
			db, err := OpenDevice(dev, &Options{EvacuateBytes: -1})
			must(t, err)
			defer func() { abandon(db) }()
			m := model{}
			for i := 0; ; i++ {
				k := fmt.Sprint("key", i)
				v := fmt.Sprint(i) + string(make([]byte, rng.IntN(most)))
				if err := db.Put([]byte(k), []byte(v)); full(err) {
					break
				} else {
					must(t, err)
				}
				m[k] = v
			}
			if seed%2 == 1 {
				must(t, db.Close())
				db, err = OpenDevice(dev, &Options{EvacuateBytes: -1})
				must(t, err)
			}
			keys := slices.Sorted(maps.Keys(m))
			rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			if seed != 182 && len(keys) > fullDeletes {
				err := db.Update(func(tx *Tx) error {
					for _, k := range keys[:fullDeletes] {
						if err := tx.Delete([]byte(k)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatalf("%d deletes in a transaction, of %d keys: %v", fullDeletes, len(keys), err)
				}
				keys = keys[fullDeletes:]
			}
			for i, k := range keys {
				if err := db.Delete([]byte(k)); err != nil {
					t.Fatalf("delete %d of %d: %v", i, len(keys), err)
				}
			}
			model{}.compare(t, db)
			mustCheck(t, db)
		})
	}
}
