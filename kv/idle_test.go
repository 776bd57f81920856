package kv

import (
	"testing"
	"time"

	"nvkv/kv/internal/btree"
)

// TestIdleStoreCollects: expired keys of a store that is not written to are collected, and their
// space is free after the next checkpoint.
func TestIdleStoreCollects(t *testing.T) {
	clock := clockAt(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	db, err := Open("", &Options{Device: "mem", Clock: clock.now, sweepEvery: time.Millisecond})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	must(t, db.Put([]byte("stays"), []byte("v")))
	must(t, db.PutTTL([]byte("goes"), make([]byte, 10_000), time.Hour))
	taken := db.Metrics().Checkpoints
	o := btree.RefOff(slotOf(t, db, "goes"))
	time.Sleep(10 * time.Millisecond)
	if m := db.Metrics(); m.Expired != 0 || m.Checkpoints != taken {
		t.Errorf("before anything expired: %d collected, %d checkpoints", m.Expired, m.Checkpoints-taken)
	}
	clock.forward(time.Hour)
	for db.Metrics().Checkpoints == taken {
		time.Sleep(time.Millisecond)
	}
	if m := db.Metrics(); m.Expired != 1 || m.Keys != 1 {
		t.Errorf("%d collected, %d keys left", m.Expired, m.Keys)
	}
	end := db.standstill()
	if db.r.IsUsed(o) {
		t.Error("the record's slot is not free")
	}
	end()
}
