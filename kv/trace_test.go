package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/locks"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
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
func del(k string) change    { return change{key: k} }

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

// Trace 1: two callers of a group update one key. If both records are written, the first is
// superseded at once and its slot is reused by the next transaction. A crash that tears that record
// leaves a record too few of the first transaction: an acknowledged value becomes void.
func TestTrace01_OneRecordPerKey(t *testing.T) { tellTwice(t, ruleR1, trace01_OneRecordPerKey) }

func trace01_OneRecordPerKey(s *session) error {
	a := wide("a")
	return script(
		func() error { return s.do(put(wide("x"), ""), put(wide("y"), "")) },
		func() error { return s.doCrashing(true, put(a, "1"), put(a, "2")) },
		func() error { return s.doCrashing(false, put(a, "3")) },
	)
}

// Trace 1 with a batch.
func TestTrace01_Batch(t *testing.T) {
	if _, err := tell(0, trace01_Batch); err != nil {
		t.Error(err)
	}
}

func trace01_Batch(s *session) error {
	a := wide("a")
	return script(
		func() error { return s.do(put(wide("x"), ""), put(wide("y"), "")) },
		func() error { return s.doCrashing(false, put(a, "1"), del(a), put(a, "2")) },
		func() error { return s.doCrashing(false, put(a, "3")) },
	)
}

// Trace 2: a recovery frees slots that the index does not reach. It never reaches a tombstone. If
// the slot of the tombstone is reused and torn, the deleted key comes back at the second crash.
func TestTrace02_TombstoneOutlivesRecovery(t *testing.T) {
	tellTwice(t, ruleR6Recovery, trace02_TombstoneOutlivesRecovery)
}

func trace02_TombstoneOutlivesRecovery(s *session) error {
	a := wide("a")
	return script(
		func() error { return s.do(put(a, elsewhere), put(wide("x"), ""), put(wide("y"), "")) },
		func() error {
			return s.fork([]change{del(a)}, func(s *session) error {
				return s.doCrashing(false, put(wide("z"), ""))
			})
		},
	)
}

// Trace 2 without a recovery in between: the delete itself frees the tombstone.
func TestTrace02_TombstoneOutlivesItsCommit(t *testing.T) {
	tellTwice(t, ruleR6, trace02_TombstoneOutlivesItsCommit)
}

func trace02_TombstoneOutlivesItsCommit(s *session) error {
	a := wide("a")
	return script(
		func() error {
			return s.do(put(a, elsewhere), put(wide("x"), ""), put(wide("y"), ""), put(wide("z"), ""), del(wide("z")), del(a))
		},
		func() error {
			return s.do(put(wide("1"), ""), put(wide("2"), ""), put(wide("3"), ""), put(wide("4"), ""))
		},
		func() error { return s.doCrashing(false, put(wide("5"), "")) },
		func() error { return s.doCrashing(false, put(wide("6"), "")) },
	)
}

// Trace 3: a key is deleted between a checkpoint's freeze and its flip. The index of that
// checkpoint has the key, so the flip must not free the tombstone.
func TestTrace03_FreezeCutsTheLists(t *testing.T) { tellTwice(t, ruleR8, trace03_FreezeCutsTheLists) }

func trace03_FreezeCutsTheLists(s *session) error {
	a := wide("a")
	return script(
		func() error {
			return s.do(put(a, elsewhere), put(wide("x"), ""), put(wide("y"), ""), put(wide("z"), ""))
		},
		func() error { return s.during(s.checkpoint, func() error { return s.do(del(a)) }) },
		func() error { return s.do(put(wide("1"), ""), put(wide("2"), ""), put(wide("3"), "")) },
		func() error { return s.doCrashing(false, put(wide("4"), "")) },
		func() error { return s.doCrashing(false, put(wide("5"), "")) },
	)
}

// during runs inside at the first fence of outside.
func (s *session) during(outside, inside func() error) error {
	var err error
	ran := false
	s.atFences(func() {
		if !ran {
			ran = true
			err = inside()
		}
	})
	e := outside()
	s.m.Hook(nil)
	if !ran {
		return errors.New("no fence came")
	}
	return firstErr(err, e)
}

// Trace 4: of a transaction of two records one reaches the medium, but not the mark of its slab, so
// a recovery does not see it. If the next transaction could have the same number, a put that marks
// the slab would show the stray record to the next recovery.
func TestTrace04_RecoveryDecidesOnce(t *testing.T) { tellTwice(t, ruleR4, trace04_RecoveryDecidesOnce) }

func trace04_RecoveryDecidesOnce(s *session) error {
	return script(
		func() error { return s.do(put(wide("x"), ""), put(wide("y"), ""), put(wide("d"), ""), put("q", "q")) },
		s.checkpoint,
		func() error { return s.do(put(wide("d"), elsewhere)) },
		func() error {
			return s.fork([]change{put(wide("a"), ""), put("b", "b")}, func(s *session) error {
				return s.doCrashing(false, put(wide("c"), ""))
			})
		},
	)
}

// Trace 5: a slab that was marked before a freeze is written again afterwards. Without a new mark
// no recovery reads it.
func TestTrace05_MarksAreRenewed(t *testing.T) { tellTwice(t, ruleR5, trace05_MarksAreRenewed) }

func trace05_MarksAreRenewed(s *session) error {
	return script(
		func() error { return s.do(put(wide("x"), "")) },
		s.checkpoint,
		func() error { return s.doCrashing(false, put(wide("a"), "1")) },
	)
}

// Trace 6: a recovery relies on bytes that are visible but not durable. A fence fails, the process
// ends, the machine lives. The next process serves the visible bytes, and a later power failure
// takes them away.
func TestTrace06_RecoveryWritesAgain(t *testing.T) {
	tellTwice(t, ruleR12, trace06_RecoveryWritesAgain)
}

func trace06_RecoveryWritesAgain(s *session) error {
	batch := []change{put("a", "1"), put(wide("b"), "2"), put("c", elsewhere)}
	return script(
		// Makes room for the batch, so that the failing fence is not one of growth.
		func() error { return s.do(put("x", "x"), put("c", elsewhere), put("c", "small")) },
		func() error {
			s.next = s.acked.with(batch)
			s.dev.FailFence(1, errors.New("injected"))
			err := commitChanges(s.db, batch, false)
			if !errors.Is(err, ErrFailed) {
				return fmt.Errorf("a write whose fence failed: %v", err)
			}
			abandon(s.db)
			if err := s.open(); err != nil {
				return err
			}
			s.acked, err = s.decide(s.db)
			s.next = nil
			return err
		},
		func() error { return s.doCrashing(false, put("y", "y")) },
	)
}

// Trace 6 for the head: a process dies while the store grows, and the next one uses the new slabs
// that it sees. A size word that is lost later takes them away.
func TestTrace06_HeadOfAKilledProcess(t *testing.T) {
	t.Parallel()
	if _, err := tell(0, trace06_HeadOfAKilledProcess); err != nil {
		t.Error(err)
	}
}

func trace06_HeadOfAKilledProcess(s *session) error {
	grows := strings.Repeat("v", 3000) // a slab
	s.c.images = []int{effort.Pick(6, 6, 16, 16)}
	keepLittle := func(db *DB) { db.needed = needed{db.ix.Height(), fullDeletes, db.ix.HasLong()} }
	keepLittle(s.db) // or the next process would grow too, and write the size word
	for i := 0; i == 0 || s.db.r.Unreserved() > 0; i++ {
		if err := s.do(put(fmt.Sprint("x", i), grows)); err != nil {
			return err
		}
	}
	small := s.db.r.SlabCount()
	return s.fork([]change{put("a", grows)}, func(s *session) error {
		n := s.db.r.SlabCount()
		keepLittle(s.db)
		err := s.doCrashing(false, put("b", strings.Repeat("v", 24_000))) // the old slabs hold less
		if again := s.db.r.SlabCount(); err == nil && n > small && again > n {
			err = fmt.Errorf("the store grew again, from %d slabs to %d, which proves nothing", n, again)
		}
		return err
	})
}

// Trace 6, its end: after a failed fence no write may be considered durable, so nothing more is
// written.
func TestTrace06_NothingAfterAFailedFence(t *testing.T) {
	tellTwice(t, ruleR15, trace06_NothingAfterAFailedFence)
}

func trace06_NothingAfterAFailedFence(s *session) error {
	return script(
		func() error { return s.do(put("x", "x")) },
		func() error {
			s.dev.FailFence(1, errors.New("injected"))
			batch := []change{put("a", "1"), put(wide("b"), "2")}
			s.next = s.acked.with(batch)
			if err := commitChanges(s.db, batch, false); !errors.Is(err, ErrFailed) {
				return fmt.Errorf("a write whose fence failed: %v", err)
			}
			// If it were accepted, it would have to survive as well.
			for _, ch := range []change{put("c", "3"), put("d", "4")} {
				if err := commitChanges(s.db, []change{ch}, false); err == nil {
					s.acked, s.next = s.acked.with([]change{ch}), s.next.with([]change{ch})
				} else if !errors.Is(err, ErrFailed) {
					return err
				}
			}
			s.crash(s.c.images[0])
			return s.err
		},
	)
}

// R15: a commit's fence fails while pages of a checkpoint are being written. The checkpoint's own
// fence succeeds but does not cover them, so the checkpoint must not flip.
func TestR15_CheckpointBesideAFailedFence(t *testing.T) {
	_, err := tell(0, func(s *session) error {
		if err := s.do(put("a", "1"), put("b", elsewhere)); err != nil {
			return err
		}
		err := s.during(s.checkpoint, func() error {
			s.dev.FailFence(1, errors.New("injected"))
			ch := []change{put("c", "2")}
			s.next = s.acked.with(ch)
			if err := commitChanges(s.db, ch, false); !errors.Is(err, ErrFailed) {
				return fmt.Errorf("a write whose fence failed: %v", err)
			}
			return nil
		})
		if !errors.Is(err, ErrFailed) {
			return fmt.Errorf("the checkpoint: %v", err)
		}
		s.crash(traceImages)
		return s.failure()
	})
	if err != nil {
		t.Error(err)
	}
}

// Trace 7: both copies of the newest superblock rot. The generation before it names slots that were
// freed and reused, here of a tombstone. Falling back to it would silently bring a deleted key
// back.
func TestTrace07_NoFallingBack(t *testing.T) { tellTwice(t, ruleR9Fall, trace07_NoFallingBack) }

func trace07_NoFallingBack(s *session) error {
	a := wide("a")
	return script(
		func() error { return s.do(put(a, elsewhere), put(wide("x"), ""), put(wide("y"), "")) },
		s.checkpoint,
		func() error { return s.do(del(a), put(wide("z"), "")) },
		s.checkpoint,
		func() error { return s.do(put(wide("1"), ""), put(wide("2"), "")) },
		func() error {
			g := s.db.r.Generation()
			abandon(s.db)
			for c := range uint64(2) {
				o := nvmap.Off(1+2*(g&1)+c) * nvmap.PageBytes
				if err := s.dev.Corrupt(o+100, []byte("rot")); err != nil {
					return err
				}
			}
			err := s.open()
			if errors.Is(err, ErrCorrupt) {
				return nil
			}
			if err == nil {
				_, err = s.decide(s.db)
			}
			return err
		},
	)
}

// Trace 7, second half: a crash must not spoil both copies.
func TestTrace07_CopiesOneByOne(t *testing.T) { tellTwice(t, ruleR9Fence, trace07_CopiesOneByOne) }

func trace07_CopiesOneByOne(s *session) error {
	if err := s.do(put("a", "1")); err != nil {
		return err
	}
	s.atFences(func() { s.crash(4 * s.c.images[0]) })
	return firstErr(s.checkpoint(), s.err)
}

// Trace 9: expiry leaves no record. If the slot of a collected record is reused and torn, the older
// version that it covered is back.
func TestTrace09_ExpiryFreesNothing(t *testing.T) { tellTwice(t, ruleR7, trace09_ExpiryFreesNothing) }

func trace09_ExpiryFreesNothing(s *session) error {
	a := wide("a")
	return script(
		func() error { return s.do(put(a, elsewhere), put(wide("x"), ""), put(wide("y"), "")) },
		func() error {
			s.acked = s.acked.with([]change{del(a)}) // as if it had expired
			return s.db.PutTTL([]byte(a), nil, time.Millisecond)
		},
		func() error { return s.do(put(wide("z"), "")) },
		func() error {
			time.Sleep(2 * time.Millisecond)
			if err := s.db.collectExpired(context.Background(), 1000); err != nil {
				return err
			}
			if s.db.Metrics().Keys != 3 {
				return errors.New("nothing was collected")
			}
			return nil
		},
		func() error { return s.doCrashing(false, put(wide("1"), "")) },
		func() error { return s.doCrashing(false, put(wide("2"), "")) },
	)
}

// Trace 12: a key too long for a leaf is updated after a checkpoint, and its old slot is reused. A
// replay compares with the key in the index, which therefore must not be stored in the old record.
func TestTrace12_LongKeysAreNotReferences(t *testing.T) {
	if _, err := tell(0, trace12_LongKeysAreNotReferences); err != nil {
		t.Error(err)
	}
}

func trace12_LongKeysAreNotReferences(s *session) error {
	k, l := strings.Repeat("k", 5000), strings.Repeat("k", 4999)+"l"
	return script(
		func() error { return s.do(put(k, "1"), put(l, "1")) },
		s.checkpoint,
		func() error { return s.do(put(k, "2"), put(l, "2"), put(wide("z"), ""), put("y", elsewhere)) },
		func() error { return s.doCrashing(false, put(k+"k", elsewhere)) },
		func() error { return s.doCrashing(false, del(l)) },
		func() error { return s.doCrashing(false, put(l, "3"), put(k, elsewhere)) },
	)
}

// A page of a value that the checkpoint reaches is freed and taken by the key of a tombstone. A
// recovery must no longer treat it as reached, because it would then free a live page with the
// tombstone (R10).
func TestR10_PageOfAValueTakenByATombstone(t *testing.T) {
	_, err := tell(0, func(s *session) error {
		k := strings.Repeat("k", 5000)
		return script(
			func() error { return s.do(put("v", elsewhere), put(k, "1")) },
			s.checkpoint,
			func() error { return s.do(put("v", "2")) },
			func() error { return s.doCrashing(false, del(k)) },
			func() error { return s.reopen(false) },
			s.checkpoint,
			s.checkpoint,
		)
	})
	if err != nil {
		t.Error(err)
	}
}

// Trace 13: a value holds images of records, like a stored backup. It is deleted, its pages are
// carved into slots, and the images lie where records begin. Their checksums are of another place.
// The broken form forges images for their own place: these count, so only the checksum keeps the
// others out.
func TestTrace13_BytesInsideValues(t *testing.T) {
	if _, err := tell(0, func(s *session) error { return insideValue(s, fromABackup) }); err != nil {
		t.Error(err)
	}
	_, err := tell(0, func(s *session) error { return insideValue(s, forged) })
	if err == nil {
		t.Fatal("forged records did not count: the trace does not test the checksum")
	}
	t.Logf("forged: %.300v", err)
}

// A4: the same with images for their own place, made for the current carving. If the next carving
// had the same number, they would count.
func TestA4_EveryCarvingHasItsNumber(t *testing.T) {
	tellTwice(t, ruleA4, func(s *session) error { return insideValue(s, ofThisCarving) })
}

// Trace 14: a put makes the store grow, and a crash takes the size word and leaves the rest. The
// next growth takes the same slabs as new ones and carves them under the same numbers, so the
// remains of the lost put would count. The fence after the size word rules such a crash out.
func TestTrace14_SizeWordBeforeTheFirstSlab(t *testing.T) {
	t.Parallel()
	if _, err := tell(0, traceA5_SizeWordBeforeTheFirstSlab); err != nil {
		t.Error(err)
	}
}

func traceA5_SizeWordBeforeTheFirstSlab(s *session) error {
	runs, fences, slabs, err := whatGrows()
	if err == nil {
		err = s.beforeGrowth()
	}
	if err != nil {
		return err
	}
	images := string(recordImages(s.db, runs, ofTheFirst)[:growing])
	s.atFences(func() {
		const limit = 200 // the size word is one line of many
		if fences--; fences == 0 {
			s.m.CrashThen(limit, func(m *crashtest.Medium) error {
				s := m.Session().(*session)
				if _, ok := s.acked["grower"]; ok || s.db.r.SlabCount() > slabs {
					return nil // the growth was not lost
				}
				return s.takeRuns(beyond(runs, s.db.r.SlabOf, slabs))
			})
		}
	})
	err = s.do(put("grower", images))
	s.m.Hook(nil)
	if err == nil && fences != 0 {
		err = errors.New("the store has not grown")
	}
	return firstErr(s.failure(), err)
}

// growing is the size of a value that does not fit the existing slabs, of which some are kept for a
// full store.
const growing = 60 * nvmap.PageBytes

func (s *session) beforeGrowth() error {
	err := s.do(put("victim", "1"))
	for i := 0; err == nil && i < 10; i++ {
		err = s.do(put(fmt.Sprint("filler", i), elsewhere))
	}
	return err
}

// whatGrows returns the place of the value that makes the store grow, how many fences its put
// takes, and how many slabs there were before.
func whatGrows() (runs []alloc.Extent, fences, slabs int, err error) {
	s, err := newCrasher(1).start()
	if err == nil {
		err = s.beforeGrowth()
	}
	if err == nil {
		slabs, fences = s.db.r.SlabCount(), -s.dev.Fences()
		err = s.do(put("grower", strings.Repeat("v", growing)))
	}
	if err == nil {
		fences += s.dev.Fences()
		runs, err = runsOf(s.db, "grower")
	}
	if err == nil && len(beyond(runs, s.db.r.SlabOf, slabs)) == 0 {
		err = errors.New("the put does not lie in what is new")
	}
	return runs, fences, slabs, firstErr(err, s.end())
}

// beyond returns the pages of runs in slab first or later ones.
func beyond(runs []alloc.Extent, slabOf func(nvmap.Off) int, first int) (out []alloc.Extent) {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if slabOf(o) >= first {
				out = append(out, alloc.Extent{Off: o, Bytes: nvmap.PageBytes})
			}
		}
	}
	return out
}

// takeRuns puts wide records until they take one of the slabs of runs, and then crashes.
func (s *session) takeRuns(runs []alloc.Extent) error {
	for i := 0; !s.tookOne(runs); i++ {
		if err := s.do(put(wide(fmt.Sprint(i)), "")); err != nil {
			return err
		}
		if i == 400 {
			return errors.New("the slabs were never taken")
		}
	}
	return s.reopen(false)
}

// tookOne says whether a slab of runs is carved into slots of wide records.
func (s *session) tookOne(runs []alloc.Extent) bool {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if _, size, ok := s.db.r.Carve(o, alloc.KindRecord); ok && size == 1024 {
				return true
			}
		}
	}
	return false
}

// A seal returns the place and the carve number for which a record image at o is sealed, in pages
// of this carving.
type seal func(o nvmap.Off, carve uint32) (nvmap.Off, uint32)

func fromABackup(o nvmap.Off, carve uint32) (nvmap.Off, uint32)   { return o + 1<<20, carve }
func ofThisCarving(o nvmap.Off, carve uint32) (nvmap.Off, uint32) { return o, carve }

// ofTheFirst is for slabs that do not exist yet.
func ofTheFirst(o nvmap.Off, _ uint32) (nvmap.Off, uint32) { return o, 1 }

// forged is for pages that are carved for runs once more, then into slots.
func forged(o nvmap.Off, carve uint32) (nvmap.Off, uint32) { return o, carve + 2 }

// insideValue stores pages of record images as a value, frees them, and lets some of their slabs be
// carved into slots of the images' size.
func insideValue(s *session, as seal) error {
	const pages = 40
	var runs []alloc.Extent
	err := script(
		func() error { return s.do(put("victim", "1"), put("v", strings.Repeat("v", pages*nvmap.PageBytes))) },
		func() (err error) {
			runs, err = runsOf(s.db, "v")
			return err
		},
		func() error {
			images := recordImages(s.db, runs, as)
			return s.do(del("v"), put("v", string(images)))
		},
		func() error {
			again, err := runsOf(s.db, "v")
			if err == nil && !slices.Equal(again, runs) {
				err = fmt.Errorf("the value lies at %x, not at %x", again, runs)
			}
			return err
		},
		func() error { return s.do(del("v")) },
		func() error { return s.reopen(false) }, // slabs are taken from the lowest again
	)
	// Wide records take free slabs until they get one of those.
	for i := 0; err == nil && !s.tookOne(runs); i++ {
		if err = s.do(put(wide(fmt.Sprint(i)), "")); err == nil && i == 400 {
			err = errors.New("the slabs were never taken")
		}
	}
	if err != nil {
		return err
	}
	s.crash(s.c.images[0])
	return s.err
}

// runsOf returns the runs of a key's value.
func runsOf(db *DB, key string) ([]alloc.Extent, error) {
	if err := db.ix.Find([]byte(key), &db.way); err != nil {
		return nil, err
	}
	var rec record.Record
	if err := db.readRecord(btree.RefOff(db.ix.Old(&db.way)), &rec); err != nil {
		return nil, err
	}
	l, err := db.runs(&rec)
	return l.Extents, err
}

// recordImages fills runs with records victim=2, for slots of 1 KiB. Their numbers are of the next
// opening and higher than those that it will write.
func recordImages(db *DB, runs []alloc.Extent, as seal) (out []byte) {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += 1024 {
			carve, _, _ := db.r.Carve(o&^(nvmap.PageBytes-1), alloc.KindRun)
			at, number := as(o, carve)
			img := victimImage(db, at, number, uint64(1000+len(out)))
			out = append(append(out, img...), make([]byte, 1024-len(img))...)
		}
	}
	return out
}

func victimImage(db *DB, at nvmap.Off, carve uint32, counter uint64) []byte {
	b := &Batch{}
	b.Put([]byte("victim"), []byte(strings.Repeat("2", 900)))
	es, _ := b.entries(nil, time.Now().UnixNano())
	e := &es[0]
	if err := db.prepare(e); err != nil {
		panic(err)
	}
	e.off = at
	return imageOf(db, e, carve, counter)
}

// imageOf returns a record of a transaction of one, sealed for a place and a carving.
func imageOf(db *DB, e *entry, carve uint32, counter uint64) []byte {
	img := append([]byte(nil), e.image[record.MaxHeaderBytes-record.HeaderBytes:]...)
	rec := record.Record{Number: record.MakeNumber(db.run+1, counter), Kind: record.KindPut, KeyLen: len(e.key), ValLen: len(e.value())}
	rec.PutHeader(img)
	rec.Seal(img, e.sum, db.seed, carve, e.off)
	return img
}

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
