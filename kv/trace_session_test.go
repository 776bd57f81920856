package kv

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/kv/internal/locks"
	"nvkv/nvmap/crashtest"
)

// Traces are histories that broke an earlier, simpler protocol. Each runs twice: with all rules it
// must pass; with the rule that repairs it switched off, the oracle of the crash suite must object.
// A trace that passes without its rule would prove nothing.

// traces are the traces that stand alone, for tests that need all of them.
var traces = []trace{
	trace06_HeadOfAKilledProcess, trace01_OneRecordPerKey, trace02_TombstoneOutlivesRecovery, trace02_TombstoneOutlivesItsCommit, trace03_FreezeCutsTheLists, trace04_RecoveryDecidesOnce, trace05_MarksAreRenewed, trace06_RecoveryWritesAgain, trace06_NothingAfterAFailedFence, trace07_NoFallingBack, trace07_CopiesOneByOne, trace09_ExpiryFreesNothing, trace16_MapsMarkWhatTheRootReaches, trace17_NeverAnotherKeysValue, traceI3_PublishedAfterItsFence, traceI5_RunListsOutliveTheirRecords, traceI6_KeysInRunsOutliveTheirRecords, traceI10_AnOpeningTakesBackThatNothingWasWritten, trace01_Batch, trace12_LongKeysAreNotReferences, traceI1_NothingIsWrittenBeforeAllHasAPlace, traceI2_OneTransactionAtATime, traceI4_CheckpointsLieBesideEachOther, traceA5_SizeWordBeforeTheFirstSlab, traceA12_SizeWordBeforeTheCut,
}

// traceImages is how many images of one moment a trace checks.
const traceImages = 80

// trace is a history. It returns the objection of the oracle.
type trace func(s *session) error

// tellTwice runs a trace with all rules and without some of them.
func tellTwice(t *testing.T, off rules, tr trace) {
	t.Helper()
	skipInRace(t)
	t.Parallel()
	if _, err := tell(0, tr); err != nil {
		t.Errorf("with all rules: %v", err)
	}
	if !switches(t) {
		return
	}
	images, err := tell(off, tr)
	t.Logf("%d images without the rule", images)
	noticed(t, err)
}

func tell(off rules, tr trace) (images int, err error) {
	if off == 0 { // nothing goes wrong, so a sample suffices
		return tellOn(0, nil, effort.Pick(16, 16, traceImages, traceImages), tr)
	}
	return tellOn(off, nil, traceImages, tr)
}

// tellOn runs a trace with one of the sites disabled, and fewer images for each moment.
func tellOn(off rules, sites *crashtest.Sites, limit int, tr trace) (images int, err error) {
	c := newCrasher(1)
	c.images = []int{limit}
	c.opt.broken = off
	c.sites = sites
	s, err := c.start()
	if err == nil {
		err = guarded(func() error { return tr(s) })
	}
	return c.opened, firstErr(err, s.end())
}

// wide returns a key so long that each of its records, a put of a short value or a tombstone, fills
// a quarter of a slab. So slots are reused soon, in an order that a trace can predict.
func wide(name string) string { return name + strings.Repeat(".", 800) }

// elsewhere is a value whose record is not in a slab of the wide ones: it lies in runs, and so does
// the wide key.
var elsewhere = strings.Repeat("v", 5000)

func put(k, v string) change { return change{key: k, value: &v} }

func del(k string) change { return change{key: k} }

// delRange deletes the keys from from up to to, exclusively.
func delRange(from, to string) change { return change{key: from, upTo: &to} }

// do commits changes, one after the other.
func (s *session) do(changes ...change) error {
	for _, ch := range changes {
		if err := s.write([]change{ch}, false); err != nil {
			return err
		}
	}
	return nil
}

// doCrashing commits changes as one transaction and crashes at its fence and afterwards.
func (s *session) doCrashing(group bool, changes ...change) error {
	limit := s.c.images[0]
	if s.m.Depth() > 0 { // it runs in each of many images
		limit = 10
	}
	s.atFences(func() { s.crash(limit) })
	err := s.write(changes, group)
	s.m.Hook(nil)
	s.crash(limit)
	return firstErr(s.err, err)
}

// atFences calls f at each fence from now on.
func (s *session) atFences(f func()) {
	s.m.Hook(func(fence bool) {
		if fence {
			f()
		}
	})
}

// fork commits changes as one transaction, and continues with then in every image of a crash at its
// fence.
func (s *session) fork(changes []change, then trace) error {
	s.atFences(func() {
		s.m.CrashThen(s.c.images[0], func(m *crashtest.Medium) (err error) {
			locks.Apart(func() { err = then(m.Session().(*session)) })
			return err
		})
	})
	err := s.write(changes, false)
	s.m.Hook(nil)
	return firstErr(s.failure(), err)
}

func (s *session) checkpoint() error { return s.db.Checkpoint(context.Background()) }

// script runs steps until one fails.
func script(steps ...func() error) error {
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}
