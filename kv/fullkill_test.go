package kv

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/nvmap"
)

// TestKilledInAFullStoresCheckpoint: if a full store refuses a delete, it takes a checkpoint and
// tries again. If the process dies before the flip, the replay has as many copies of pages to make
// as there is room for. The store still opens, also read-only.
func TestKilledInAFullStoresCheckpoint(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		value int
		seed  uint64
	}{{2 << 20, 0, 1}, {8 << 20, 30, 1}, {8 << 20, 0, 7}} {
		t.Run(fmt.Sprintf("%d MiB, values of %d", c.bytes>>20, c.value), func(t *testing.T) {
			dev := keptDevice{nvmap.NewMem(c.bytes)}
			o := &Options{SlabBytes: 64 << 10, EvacuateBytes: -1}
			db, err := OpenDevice(dev, o)
			must(t, err)
			rng := rand.New(rand.NewPCG(c.seed, 7))
			keys := fillRandomly(t, db, rng, c.value)
			rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			for _, k := range keys[:20] {
				must(t, db.Delete(k))
			}
			must(t, db.Checkpoint(t.Context()))
			n := 20
			for ; err == nil; n++ {
				err = deleteOnce(db, keys[n])
			}
			if !full(err) {
				t.Fatal(err)
			}
			want := int64(len(keys) - n + 1)
			abandon(db)
			for _, readOnly := range []bool{true, false} {
				db, err := OpenDevice(dev, &Options{SlabBytes: 64 << 10, EvacuateBytes: -1, ReadOnly: readOnly})
				if err != nil {
					t.Errorf("opening, read-only %v: %v", readOnly, err)
					continue
				}
				if got := db.Metrics().Keys; got != want {
					t.Errorf("%d keys, not %d", got, want)
				}
				mustCheck(t, db)
				abandon(db)
			}
		})
	}
}

// deleteOnce deletes a key without making room first.
func deleteOnce(db *DB, key []byte) error {
	b := db.NewBatch()
	b.Delete(key)
	es, err := b.entries(nil, db.now())
	if err != nil {
		return err
	}
	db.turn.hold()
	defer db.turn.give()
	return db.commitAlone(es)
}
