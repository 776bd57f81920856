package kv

import (
	"bytes"
	"fmt"
	"testing"

	"nvkv/nvmap"
)

// TestR11Interval: between two freezes at most two intervals are written, plus one operation,
// however fast the writer is.
func TestR11Interval(t *testing.T) { withAndWithout(t, ruleR11, writeIntervals) }

func writeIntervals(off rules) error {
	const interval, record = 64 << 10, 1100
	db, err := OpenDevice(nvmap.NewMem(64<<20), &Options{CheckpointBytes: interval, broken: off})
	if err != nil {
		return err
	}
	defer db.Close()
	db.stopCheckpointer() // as if it were too slow: the writer takes the checkpoint
	value := bytes.Repeat([]byte("v"), 1000)
	for i := range 2000 {
		if err := db.Put(fmt.Appendf(nil, "key %04d", i%300), value); err != nil {
			return err
		}
		if m := db.Metrics(); m.SinceCheckpoint > 2*interval+record {
			return fmt.Errorf("put %d: %d bytes since the last freeze, the interval is %d", i, m.SinceCheckpoint, interval)
		}
	}
	if m := db.Metrics(); m.Checkpoints < 2000*1000/(2*interval+record) {
		return fmt.Errorf("%d checkpoints", m.Checkpoints)
	}
	return nil
}

// TestR11CrashLoop: replayed bytes count towards the next checkpoint, so a store that crashes again
// and again does not replay more and more.
func TestR11CrashLoop(t *testing.T) { withAndWithout(t, ruleR11, crashOften) }

func crashOften(off rules) error {
	const interval = 64 << 10
	opt := &Options{CheckpointBytes: interval, SlabBytes: 4096, broken: off}
	dev := nvmap.NewSim(nvmap.NewMem(16 << 20))
	value := bytes.Repeat([]byte("v"), 1000)
	most := int64(0)
	for crash := range 40 {
		db, err := OpenDevice(crashDevice{dev}, opt)
		if err != nil {
			return fmt.Errorf("opening %d: %v", crash, err)
		}
		most = max(most, db.Metrics().RecordsReplayed)
		for i := range 10 {
			if err := db.Put(fmt.Appendf(nil, "key %02d.%d", crash, i), value); err != nil {
				return err
			}
		}
		abandon(db)
		dev = dev.Crash(uint64(crash))
	}
	if limit := int64(2*interval/1000 + 10); most > limit {
		return fmt.Errorf("a recovery replayed %d records of 1,000 bytes; two intervals of %d bytes hold %d", most, interval, limit)
	}
	return nil
}

// withAndWithout demands that f fails with the rules switched off, and passes without that.
func withAndWithout(t *testing.T, off rules, f func(off rules) error) {
	t.Helper()
	if err := f(0); err != nil {
		t.Error(err)
	}
	if !switches(t) {
		return
	}
	noticed(t, f(off))
}
