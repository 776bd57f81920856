package kv

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"nvkv/nvmap"
)

// Costs of operations, counted and not timed.

// TestSeekAfterMassDelete: after 99 keys in 100 are deleted, one by one or as ranges, a seek and
// the steps after it read no more pages than before, even while the tombstones wait for a
// checkpoint.
func TestSeekAfterMassDelete(t *testing.T) {
	skipInRace(t)
	for _, ranges := range []bool{false, true} {
		t.Run(fmt.Sprint("ranges=", ranges), func(t *testing.T) { seekAfterMassDelete(t, ranges) })
	}
}

func seekAfterMassDelete(t *testing.T, ranges bool) {
	// On a device that is not mapped every page that is read is counted.
	db, err := OpenDevice(unmappedDevice{Device: nvmap.NewMem(64 << 20)}, &Options{EvacuateBytes: -1})
	must(t, err)
	defer db.Close()
	const n, every, steps = 40_000, 100, 10
	key := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), make([]byte, 20)) })
	pages := func() float64 {
		before := db.Metrics()
		const seeks = 300
		rng := rand.New(rand.NewPCG(1, 1))
		for range seeks {
			must(t, db.View(func(tx *Tx) error {
				c := tx.Cursor()
				if !c.Seek(key(rng.IntN(n - every*(steps+1)))) {
					return fmt.Errorf("nothing found: %w", c.Err())
				}
				for range steps {
					c.Next()
				}
				return c.Close()
			}))
		}
		after := db.Metrics()
		return float64(after.CacheHits+after.CacheMisses-before.CacheHits-before.CacheMisses) / seeks
	}
	full := pages()
	inBatches(t, db, n, func(b *Batch, i int) {
		switch {
		case ranges && i%every == 1:
			b.DeleteRange(key(i), key(i+every-1))
		case !ranges && i%every != 0:
			b.Delete(key(i))
		}
	})
	m := db.Metrics()
	if m.Keys != n/every || m.Tombstones == 0 {
		t.Fatalf("%d keys left, %d tombstones", m.Keys, m.Tombstones)
	}
	deleted := pages()
	must(t, db.Checkpoint(t.Context()))
	swept := pages()
	t.Logf("pages looked at by a seek and %d steps: %.1f with all keys, %.1f with %d tombstones, %.1f after a checkpoint", steps, full, deleted, m.Tombstones, swept)
	if deleted > full*1.05 || swept > full*1.05 {
		t.Error("a seek costs more where keys were deleted")
	}
}

// TestUpdatesLeaveNoDebt: sustained updates leave no work for later: the bytes written for each
// update, and the space, stay the same.
func TestUpdatesLeaveNoDebt(t *testing.T) {
	skipInRace(t)
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 256 << 20, CheckpointBytes: 2 << 20})
	const n, round, size = 20_000, 100_000, 100
	key := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	inBatches(t, db, n, func(b *Batch, i int) { b.Put(key(i), make([]byte, size)) })
	rng := rand.New(rand.NewPCG(7, 7))
	update := func() (writeAmp float64, room int64) {
		before := db.Metrics()
		for range round {
			must(t, db.Put(key(rng.IntN(n)), make([]byte, size)))
		}
		m := db.Metrics()
		writeAmp = float64(m.MediaBytes-before.MediaBytes) / float64(m.UserBytes-before.UserBytes)
		t.Logf("%.2f bytes written per user byte, a store of %d bytes", writeAmp, m.DeviceBytes)
		return writeAmp, m.DeviceBytes
	}
	update() // until the store has grown enough
	amp0, room0 := update()
	update()
	amp1, room1 := update()
	const userBytes = round * (size + 8)
	if amp1 > amp0*1.2 || room1-room0 > userBytes {
		t.Error("updates come to cost more")
	}
}

// TestDataIsOffTheHeap: the memory of a store is not on the Go heap, except its lists.
func TestDataIsOffTheHeap(t *testing.T) {
	skipInRace(t)
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // frees the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 256 << 20, CheckpointBytes: 1 << 30})
	inBatches(t, db, 200_000, func(b *Batch, i int) { b.Put(fmt.Appendf(nil, "%08d", i*7919%200_000), make([]byte, 100)) })
	m := db.Metrics()
	grown := heap() - before
	t.Logf("%d bytes live and %d of frames, %d more on the heap", m.LiveBytes, m.FrameBytes, grown)
	if grown > 4<<20 || m.FrameBytes < 4<<20 {
		t.Error("the heap grew with the data")
	}
	if accounted := m.SlabTableBytes + m.HeldBytes; accounted < grown/4 {
		t.Errorf("metrics account for %d of them", accounted)
	}
}
