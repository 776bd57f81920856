package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

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
