package kv

import (
	"context"
	"fmt"
	"os"
	"testing"

	"nvkv/nvmap"
)

// TestCrashBesideCheckpoint is the crash suite with writers at work between a
// checkpoint's freeze and its flip (R8), and between the two copies of its
// superblock (R9): what they free and take again must not be what either
// checkpoint still names.
func TestCrashBesideCheckpoint(t *testing.T) {
	seeds, checkpoints := uint64(3), 25
	switch {
	case os.Getenv("NVKV_CRASH") == "long":
		seeds = 200
	case testing.Short():
		seeds, checkpoints = 1, 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.images = []int{5, 2, 1}
			s, err := c.start()
			if err == nil {
				err = s.besideCheckpoints(checkpoints)
			}
			t.Logf("%d images", c.opened)
			if err != nil {
				t.Error(err)
			}
			abandon(s.db)
		})
	}
}

// besideCheckpoints takes n checkpoints, and writes whenever one of them does.
func (s *session) besideCheckpoints(n int) error {
	checkpointing := false
	beside := func(odds int) {
		if !checkpointing || s.err != nil || s.c.rng.IntN(odds) > 0 {
			return
		}
		checkpointing = false // what is written here is no checkpoint
		s.err = firstErr(s.err, s.write(s.c.changes(1+s.c.rng.IntN(3)), false))
		checkpointing = true
	}
	s.dev.OnFence(func() {
		beside(1)
		s.crash(s.c.images[0])
	})
	s.dev.OnWrite(func(nvmap.Off, int) {
		beside(4)
		if s.c.rng.IntN(8) == 0 {
			s.crash(1)
		}
	})
	for range n {
		for range s.c.rng.IntN(4) {
			if err := firstErr(s.write(s.c.changes(1), false), s.err); err != nil {
				return s.explain(err)
			}
		}
		s.done = append(s.done, "checkpoint")
		checkpointing = true
		err := guarded(func() error { return s.db.Checkpoint(context.Background()) })
		checkpointing = false
		if err = firstErr(s.err, err, clean(s.db)); err != nil {
			return s.explain(err)
		}
	}
	return nil
}
