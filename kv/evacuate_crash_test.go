package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// TestCrashWhileEvacuating is the crash suite with Compact among the operations: records, index
// pages and runs move, slabs are discarded and carved again, the device is cut at Close and grows
// again.
func TestCrashWhileEvacuating(t *testing.T) {
	skipInRace(t)
	rounds := effort.Pick(2, 1, 6, 40)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](2, 4, 4, 100)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.images, c.opt.listLevels = []int{4, 1, 1}, int(seed%3)
			c.opt.EvacuateBytes, c.opt.tidySlack, c.opt.moveTogether = -1, 1, seed%2 == 1
			s, err := c.start()
			var did Metrics
			if err == nil {
				did, err = s.evacuating(rounds)
			}
			t.Logf("%d images, %d records moved, %d bytes discarded", c.opened, did.EvacuatedRecords, did.DiscardedBytes)
			if err == nil && (did.EvacuatedRecords == 0 || did.DiscardedBytes == 0) {
				err = errors.New("nothing was moved, or nothing discarded")
			}
			if err != nil {
				t.Error(err)
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// evacuating alternately fills and thins a store, compacts it, and crashes everywhere.
func (s *session) evacuating(rounds int) (did Metrics, err error) {
	note := func() {
		m := s.db.Metrics()
		did.EvacuatedRecords += m.EvacuatedRecords
		did.DiscardedBytes += m.DiscardedBytes
	}
	for range rounds {
		s.m.Watch(false)
		if err := s.swell(); err != nil {
			return did, err
		}
		s.m.Watch(true)
		s.m.Log("settle")
		s.db.settle(context.Background())
		s.m.Log("compact")
		err := guarded(func() error { return s.db.Compact(context.Background()) })
		if err = firstErr(s.failure(), err, clean(s.db)); err != nil {
			return did, err
		}
		for range s.c.rng.IntN(3) {
			if err := firstErr(s.write(s.c.changes(1+s.c.rng.IntN(3)), false), s.failure()); err != nil {
				return did, err
			}
		}
		if s.c.rng.IntN(4) == 0 {
			note()
			if err := firstErr(s.reopen(s.c.rng.IntN(2) == 0), s.failure()); err != nil {
				return did, err
			}
		}
	}
	s.m.Watch(false)
	note()
	return did, nil
}

// swell puts many keys and deletes most of them again.
func (s *session) swell() error {
	var changes []change
	for i := range 120 {
		v := strings.Repeat("v", []int{20, 100, 400, 5000}[i%4]+s.c.rng.IntN(20))
		changes = append(changes, change{key: fmt.Sprintf("swell/%04d", s.c.rng.IntN(2000)), value: &v})
	}
	for part := range 12 {
		if err := s.write(changes[part*10:part*10+10], false); err != nil {
			return err
		}
	}
	for k := range s.acked {
		if strings.HasPrefix(k, "swell/") && s.c.rng.IntN(8) > 0 {
			if err := s.write([]change{del(k)}, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveAll moves the records of the slab that holds key's record.
func (s *session) moveAll(key string) error {
	db := s.db
	return db.withTurn(func() error {
		if err := db.ix.Find([]byte(key), &db.way); err != nil {
			return err
		}
		_, next, err := db.emptySome(db.r.SlabOf(btree.RefOff(db.ix.Old(&db.way))), 0, stepSlots)
		if err == nil && next >= 0 {
			err = fmt.Errorf("not all were moved: slot %d is next", next)
		}
		return err
	})
}

// Trace 8: a record moves under its old number, and its old slot is reused. The checkpoint's index
// still names the old slot, and no recovery replays a number that the checkpoint contains.
func TestTrace08_MovedUnderANewNumber(t *testing.T) {
	tellTwice(t, ruleI8, func(s *session) error {
		a := wide("a")
		return script(
			func() error { return s.do(put(a, "1"), put(wide("x"), ""), put(wide("y"), "")) },
			s.checkpoint,
			func() error { return s.moveAll(a) },
			func() error { return s.do(put(wide("1"), ""), put(wide("2"), ""), put(wide("3"), "")) },
			func() error { return s.doCrashing(false, put(wide("4"), "")) },
			func() error { return s.doCrashing(false, put(wide("5"), "")) },
		)
	})
}

// A10: a slab of tombstones is not free before a checkpoint has flipped. If it is given back
// earlier, the deleted key comes back.
func TestA10_DiscardWaitsForTheFlip(t *testing.T) {
	tellTwice(t, ruleA10, func(s *session) error {
		a := wide("a")
		return script(
			func() error { return s.do(put(a, elsewhere), put("x", "x")) },
			s.checkpoint,
			func() error { return s.do(del(a)) },
			func() error { return s.db.discardFree(context.Background()) },
			func() error { return s.doCrashing(false, put("y", "y")) },
		)
	})
}

// A12: if the device is cut before the size word shrinks, it is shorter than the size word says.
func TestA12_SizeWordBeforeTheCut(t *testing.T) { tellTwice(t, ruleA12, traceA12_SizeWordBeforeTheCut) }

func traceA12_SizeWordBeforeTheCut(s *session) error {
	for i := range 400 {
		if err := s.do(put(fmt.Sprintf("k%03d", i), elsewhere)); err != nil {
			return err
		}
	}
	if err := s.db.DeleteRange([]byte("k"), []byte("l")); err != nil {
		return err
	}
	s.acked = model{}
	size := s.dev.Size()
	s.atFences(func() { s.crash(4) })
	err := firstErr(s.db.Compact(context.Background()), s.db.Close(), s.failure())
	s.m.Hook(nil)
	if err == nil && s.dev.Size() >= size/2 {
		err = fmt.Errorf("the device still has %d bytes of %d", s.dev.Size(), size)
	}
	s.crash(10) // the device is cut, and nothing was fenced since
	return firstErr(err, s.open(), s.failure())
}

// holeDevice refuses writes to bytes that were discarded and not allocated again.
type holeDevice struct {
	nvmap.Device
	gone map[nvmap.PageID]bool
}

func (d *holeDevice) each(off nvmap.Off, n int64, fn func(nvmap.PageID)) {
	for p := off.Page(); p.Off() < off+nvmap.Off(n); p++ {
		fn(p)
	}
}

func (d *holeDevice) Discard(off nvmap.Off, n int64) error {
	d.each(off, n, func(p nvmap.PageID) { d.gone[p] = true })
	return d.Device.Discard(off, n)
}

func (d *holeDevice) Allocate(off nvmap.Off, n int64) error {
	d.each(off, n, func(p nvmap.PageID) { delete(d.gone, p) })
	return d.Device.Allocate(off, n)
}

func (d *holeDevice) Write(off nvmap.Off, p []byte) (err error) {
	d.each(off, int64(len(p)), func(p nvmap.PageID) {
		if d.gone[p] {
			err = &nvmap.FaultError{Off: p.Off(), Op: "write", Err: errors.New("no block is there")}
		}
	})
	if err != nil {
		return err
	}
	return d.Device.Write(off, p)
}

// A11: a slab whose blocks were given back gets blocks before anything is written to it.
func TestA11_BlocksBeforeCarving(t *testing.T) {
	for _, off := range withWithout(ruleA11) {
		dev := &holeDevice{nvmap.NewMem(64 << 20), map[nvmap.PageID]bool{}}
		db, err := OpenDevice(dev, &Options{EvacuateBytes: -1, broken: off})
		if err != nil {
			t.Fatal(err)
		}
		err = func() error {
			for range 3 {
				for i := range 3000 {
					if err := db.Put(fmt.Appendf(nil, "%04d", i), make([]byte, 500+i)); err != nil {
						return err
					}
				}
				if err := firstErr(db.DeleteRange(nil, nil), db.Compact(context.Background())); err != nil {
					return err
				}
			}
			return clean(db)
		}()
		switch {
		case off == 0 && err != nil:
			t.Error(err)
		case off == 0 && len(dev.gone) == 0:
			t.Error("nothing was discarded")
		case off != 0 && err == nil:
			t.Error("without the rule nothing was wrong: the test does not test it")
		}
		abandon(db)
	}
}
