package kv

import (
	"fmt"
	"testing"

	"nvkv/nvmap"
)

// fenceStore is a store on a medium that counts fences.
func fenceStore(t *testing.T) (*DB, *nvmap.Sim) {
	t.Helper()
	dev := nvmap.NewSim(nvmap.NewMem(256 << 20))
	db, err := OpenDevice(dev, &Options{CheckpointBytes: 1 << 30, EvacuateBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, dev
}

// TestFencesOfAPut: a put, an update and a delete cost exactly one fence each, unless the store
// grows meanwhile, and Metrics counts the same number.
func TestFencesOfAPut(t *testing.T) {
	db, dev := fenceStore(t)
	value := make([]byte, 100)
	grew, counted := 0, 0
	one := func(what string, i int, do func() error) {
		t.Helper()
		fences, size, told := dev.Fences(), dev.Size(), db.Metrics().Fences
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if dev.Size() != size {
			grew++
			return
		}
		counted++
		if n := dev.Fences() - fences; n != 1 {
			t.Fatalf("%s %d: %d fences", what, i, n)
		}
		if n := db.Metrics().Fences - told; n != 1 {
			t.Fatalf("%s %d: Metrics counted %d fences", what, i, n)
		}
	}
	for i := range 2000 {
		key := fmt.Appendf(nil, "user%019d", i*7919%2000)
		one("put", i, func() error { return db.Put(key, value) })
		one("update", i, func() error { return db.Put(key, value) })
		if i%3 == 0 {
			one("delete", i, func() error { return db.Delete(key) })
		}
	}
	t.Logf("%d operations of one fence each, %d beside them grew the store", counted, grew)
	if grew > counted/50 {
		t.Errorf("%d of %d operations grew the store", grew, counted+grew)
	}
	fences := dev.Fences()
	if err := db.Delete([]byte("absent")); err != nil || dev.Fences() != fences {
		t.Errorf("deleting what is absent: %d fences, %v", dev.Fences()-fences, err)
	}
	if err := db.Write(db.NewBatch()); err != nil || dev.Fences() != fences {
		t.Errorf("an empty batch: %d fences, %v", dev.Fences()-fences, err)
	}
}

// TestFencesOfABatch: a batch of a thousand costs one fence. So does a transaction of a thousand,
// and a group.
func TestFencesOfABatch(t *testing.T) {
	db, dev := fenceStore(t)
	key := func(i int) []byte { return fmt.Appendf(nil, "user%019d", i) }
	shapes := []struct {
		name string
		do   func(value []byte) error
	}{
		{"batch", func(value []byte) error {
			b := db.NewBatch()
			for i := range 1000 {
				b.Put(key(i), value)
			}
			return db.Write(b)
		}},
		{"transaction", func(value []byte) error {
			return db.Update(func(tx *Tx) error {
				for i := range 1000 {
					if err := tx.Put(key(i), value); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"group", func(value []byte) error {
			var changes []change
			for i := range 100 {
				changes = append(changes, put(string(key(i)), string(value)))
			}
			return commitGroup(db, changes)
		}},
	}
	for _, shape := range shapes {
		single := 0
		for round := range 8 {
			fences, size := dev.Fences(), dev.Size()
			if err := shape.do(fmt.Appendf(nil, "%0100d", round)); err != nil {
				t.Fatal(err)
			}
			n := dev.Fences() - fences
			if dev.Size() == size && n != 1 {
				t.Errorf("%s, round %d: %d fences", shape.name, round, n)
			}
			if n == 1 {
				single++
			}
		}
		if single < 4 {
			t.Errorf("%s: only %d rounds of 8 in the steady state", shape.name, single)
		}
	}
}
