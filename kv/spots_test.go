package kv

import (
	"fmt"
	"testing"

	"nvkv/nvmap"
)

// fenceHook is a device that calls a function before each fence.
type fenceHook struct {
	nvmap.Device
	before func()
}

func (d *fenceHook) Fence() error {
	if d.before != nil {
		d.before()
	}
	return d.Device.Fence()
}

// TestSpotsBesideSnapshot: a snapshot that is opened between the plan of a batch and its publication
// sees what was there before, though the plan knows where the references stand that the batch
// changes.
func TestSpotsBesideSnapshot(t *testing.T) {
	dev := &fenceHook{Device: nvmap.NewMem(16 << 20)}
	db, err := OpenDevice(dev, &Options{EvacuateBytes: -1})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	const keys = 600
	key := func(i int) []byte { return fmt.Appendf(nil, "key%05d", i*7919%keys) }
	inBatches(t, db, keys, func(b *Batch, i int) { b.Put(key(i), []byte("0")) })
	for round := range 4 {
		var tx *Tx
		dev.before = func() {
			dev.before = nil
			tx, err = db.Begin(false)
			must(t, err)
		}
		if round == 0 {
			dev.before = nil // all blocks are of the epoch of the batch
		}
		planned := 0
		b := db.NewBatch()
		for i := range keys {
			switch i % 7 {
			case 3 * (round % 2): // a key that comes, and in between one that goes
				b.Put(fmt.Appendf(key(i), "-%d", round), nil)
			case 5 * (round % 2):
				b.Put(key(i), []byte("twice"))
			}
			b.Put(key(i), fmt.Append(nil, round+1))
		}
		must(t, db.Write(b))
		must(t, db.withTurn(func() error { planned = len(db.spots.all); return nil }))
		if planned == 0 {
			t.Error("the plan of the batch tells no spots")
		}
		for i := range keys {
			wantGet(t, db.Get, string(key(i)), fmt.Sprint(round+1), true)
			if tx != nil {
				wantGet(t, tx.Get, string(key(i)), fmt.Sprint(round), true)
			}
		}
		if tx != nil {
			must(t, tx.Rollback())
		}
	}
	mustCheck(t, db)
}
