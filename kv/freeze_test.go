package kv

import (
	"context"
	"fmt"
	"testing"

	"nvkv/internal/effort"
	"nvkv/kv/internal/locks"
)

// TestCrashBesideCheckpoint is the crash suite with writers between a checkpoint's freeze and its
// flip (R8), and between the two copies of its superblock (R9). The slots that these writers free
// and reuse must not be named by either checkpoint.
func TestCrashBesideCheckpoint(t *testing.T) {
	if raceBuild {
		t.Skip("the writers are inside the call that takes the checkpoint, and the lock of race builds keeps them apart")
	}
	checkpoints := effort.Pick(3, 2, 25, 25)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](1, 3, 3, 200)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.images, c.between, c.opt.listLevels = []int{5, 2, 1}, 8, int(seed%3)
			s, err := c.start()
			if err == nil {
				err = s.besideCheckpoints(checkpoints)
			}
			t.Logf("%d images", c.opened)
			if err != nil {
				t.Error(err)
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// besideCheckpoints takes n checkpoints, and writes during each of them.
func (s *session) besideCheckpoints(n int) error {
	checkpointing := false
	s.m.Watch(true)
	s.m.Hook(func(fence bool) {
		if !checkpointing || s.failure() != nil || !fence && s.c.rng.IntN(4) > 0 {
			return
		}
		locks.Apart(func() { // as another goroutine
			s.err = firstErr(s.err, s.write(s.c.changes(1+s.c.rng.IntN(3)), false))
		})
	})
	for range n {
		for range s.c.rng.IntN(4) {
			if err := firstErr(s.failure(), s.write(s.c.changes(1), false)); err != nil {
				return err
			}
		}
		s.m.Log("checkpoint")
		checkpointing = true
		err := guarded(func() error { return s.db.Checkpoint(context.Background()) })
		checkpointing = false
		if err = firstErr(s.failure(), err, clean(s.db)); err != nil {
			return err
		}
	}
	s.m.Hook(nil)
	s.m.Watch(false)
	return s.failure()
}
