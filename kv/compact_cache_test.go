package kv

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// TestCompactInSmallCache: moving records needs frames, and making room for them waits for all
// sections. So Compact must not be in a section while it waits.
func TestCompactInSmallCache(t *testing.T) {
	t.Parallel()
	if raceBuild {
		t.Skip("a store larger than its cache")
	}
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{CacheBytes: MinCacheBytes, CheckpointBytes: 1 << 20, tidySlack: 1, EvacuateBytes: -1})
	key := func(i int) []byte {
		return append(fmt.Appendf(nil, "%08d", i*7919%100_003), bytes.Repeat([]byte("k"), 800)...)
	}
	const keys = 8000 // four to a page
	for i := range keys {
		must(t, db.Put(key(i), []byte("v")))
	}
	for i := range keys {
		if i%3 == 0 {
			must(t, db.Delete(key(i)))
		}
	}
	done := make(chan error, 1)
	go func() { done <- db.Compact(context.Background()) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(effort.Hang):
		t.Fatal("Compact waits for itself")
	}
	if most := db.m.Stats().Frames; most > MinCacheBytes/4096 {
		t.Errorf("%d frames, more than CacheBytes allows", most)
	}
}
