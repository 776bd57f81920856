package kv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// Trace 16: if maps marked the slots that tombstones and commits under way hold, a crash would leak
// them.
func TestTrace16_MapsMarkWhatTheRootReaches(t *testing.T) {
	tellTwice(t, ruleR10, trace16_MapsMarkWhatTheRootReaches)
}

func trace16_MapsMarkWhatTheRootReaches(s *session) error {
	return script(
		func() error { return s.do(put(wide("a"), "1"), put("b", "2"), del(wide("a"))) },
		s.checkpoint,
		func() error { return s.doCrashing(false, put("c", "3")) },
	)
}

// Trace 17: the newest record of a key rots, and the slot that the checkpoint names was reused. The
// key returns ErrCorrupt, never another key's value.
func TestTrace17_NeverAnotherKeysValue(t *testing.T) {
	tellTwice(t, ruleR13, trace17_NeverAnotherKeysValue)
}

func trace17_NeverAnotherKeysValue(s *session) error {
	a, z := wide("a"), wide("z")
	var rotten nvmap.Off
	err := script(
		func() error { return s.do(put(a, "1"), put(wide("x"), ""), put(wide("y"), "")) },
		s.checkpoint,
		func() error { return s.do(put(a, "2"), put(z, "zzz")) },
		func() error {
			err := s.db.ix.Find([]byte(a), &s.db.way)
			rotten = btree.RefOff(s.db.ix.Old(&s.db.way))
			return err
		},
		func() error { return s.do(put("later", "1")) }, // another one is the highest
	)
	if err != nil {
		return err
	}
	abandon(s.db)
	if err := s.dev.Corrupt(rotten+30, []byte("rot")); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	v, err := s.db.Get([]byte(a))
	if err == nil {
		return fmt.Errorf("Get = %.20q", v)
	}
	if !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("Get: %w", err)
	}
	if clean(s.db) == nil {
		return errors.New("Check names nothing")
	}
	v, err = s.db.Get([]byte(z))
	if err != nil || string(v) != "zzz" {
		return fmt.Errorf("the other key: %q, %w", v, err)
	}
	return nil
}

// I3: a record that is published before its fence can be lost although it was acknowledged.
func TestI3_PublishedAfterItsFence(t *testing.T) {
	tellTwice(t, ruleI3, traceI3_PublishedAfterItsFence)
}

func traceI3_PublishedAfterItsFence(s *session) error {
	return s.doCrashing(false, put("a", "1"))
}

// I1: a batch that does not fit is written as far as possible. After the next transaction it is not
// the highest, and no recovery counts its records.
func TestI1_NothingIsWrittenBeforeAllHasAPlace(t *testing.T) {
	tellTwice(t, ruleI1, traceI1_NothingIsWrittenBeforeAllHasAPlace)
}

func traceI1_NothingIsWrittenBeforeAllHasAPlace(s *session) error {
	s.c.limit = 220 << 10
	s.dev.SetLimit(s.c.limit)
	n := 0
	for ; s.c.full == 0; n++ {
		if err := s.do(put(wide(fmt.Sprint(n)), "")); err != nil {
			return err
		}
	}
	batch := []change{put("a", "1"), put("b", "1"), put("z", strings.Repeat("v", int(s.c.limit)))} // z comes last
	var deleted []change                                                                           // for the index, a and b
	for i := range n - 10 {
		deleted = append(deleted, del(wide(fmt.Sprint(i))))
	}
	return script(
		func() error { return s.do(deleted...) },
		s.checkpoint,
		func() error {
			full := s.c.full
			err := s.write(batch, false)
			if err == nil && s.c.full == full {
				err = errors.New("the batch found room")
			}
			return err
		},
		func() error { return s.doCrashing(false, del(wide(fmt.Sprint(n-5)))) },
	)
}

// I2: two callers' transactions are written under one fence. Only the higher one is counted, so
// half of the lower one would pass for all of it.
func TestI2_OneTransactionAtATime(t *testing.T) { tellTwice(t, ruleI2, traceI2_OneTransactionAtATime) }

func traceI2_OneTransactionAtATime(s *session) error {
	callers := [][]change{{put(wide("a"), "1"), put("b", "1")}, {put("c", "2")}}
	if err := s.do(put(wide("a"), "0"), put("b", "0")); err != nil {
		return err
	}
	first := s.acked.with(callers[0])
	s.past = []model{first} // complete and alone, it would do no harm
	s.next = first.with(callers[1])
	s.atFences(func() { s.crash(s.c.images[0]) })
	err := commitCallers(s.db, callers)
	s.m.Hook(nil)
	s.past, s.acked, s.next = nil, s.next, nil
	return firstErr(s.failure(), err)
}

// I4: pages that the last checkpoint names are changed in place. The next checkpoint overwrites
// them, and a crash in the middle leaves neither checkpoint.
func TestI4_CheckpointsLieBesideEachOther(t *testing.T) {
	tellTwice(t, ruleI4, traceI4_CheckpointsLieBesideEachOther)
}

func traceI4_CheckpointsLieBesideEachOther(s *session) error {
	return script(
		func() error { return s.do(put("a", "1"), put("b", "1"), put(wide("c"), "1")) },
		s.checkpoint,
		func() error { return s.do(put("a", "2"), put("d", "2"), del(wide("c"))) },
		func() error {
			s.atFences(func() { s.crash(s.c.images[0]) })
			err := s.checkpoint()
			s.m.Hook(nil)
			return firstErr(s.failure(), err)
		},
	)
}

// I5: a checkpoint names a record with runs. The record is replaced and its slot reused, so a
// recovery cannot tell which runs were freed.
func TestI5_RunListsOutliveTheirRecords(t *testing.T) {
	tellTwice(t, ruleI5, traceI5_RunListsOutliveTheirRecords)
}

func traceI5_RunListsOutliveTheirRecords(s *session) error {
	steps := []func() error{
		func() error { return s.do(put("a", elsewhere), put("b", elsewhere)) },
		s.checkpoint,
		func() error { return s.do(put("a", "1")) },
	}
	for i := range 120 { // until the slot of the run list is reused
		steps = append(steps, func() error { return s.do(put("c", fmt.Sprintf("%020d", i))) })
	}
	return script(append(steps, func() error { return s.doCrashing(false, put("d", "1")) })...)
}

// I6: the key of a record lies in its runs. The record is replaced and the runs are reused, so a
// recovery finds a record without a key.
func TestI6_KeysInRunsOutliveTheirRecords(t *testing.T) {
	tellTwice(t, ruleI6, traceI6_KeysInRunsOutliveTheirRecords)
}

func traceI6_KeysInRunsOutliveTheirRecords(s *session) error {
	var steps []func() error
	for i := range 40 { // it takes more slabs than are kept for a full store
		steps = append(steps, func() error { return s.do(put(wide("k"), elsewhere+fmt.Sprint(i))) })
	}
	steps = append(steps, s.around()...)
	return script(append(steps, func() error { return s.doCrashing(false, put("d", elsewhere)) })...)
}

// around writes runs until free slabs are taken from the front again.
func (s *session) around() (steps []func() error) {
	for i := range 12 {
		steps = append(steps, func() error { return s.do(put(fmt.Sprint("around", i), elsewhere)) })
	}
	return steps
}

// I10: a store was closed and says that nothing was written since its checkpoint. If an opening did
// not revoke that, its writes would be lost.
func TestI10_AnOpeningTakesBackThatNothingWasWritten(t *testing.T) {
	tellTwice(t, ruleI10, traceI10_AnOpeningTakesBackThatNothingWasWritten)
}

func traceI10_AnOpeningTakesBackThatNothingWasWritten(s *session) error {
	s.c.opt.lateFrom = 1
	return script(
		func() error { return s.do(put("a", "1"), put("b", "1")) },
		func() error { return s.reopen(true) },
		func() error { return s.doCrashing(false, put("a", "2")) },
		func() error { return s.reopen(true) },
		func() error { return s.doCrashing(true, put("a", "3"), del("b")) },
	)
}
