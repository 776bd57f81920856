package compat_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"nvkv/compat"
	"nvkv/internal/effort"
)

// TestPebbleThatCannotLog fills the disk under pebble's log. Later writes must fail, reads must
// work, and a reopened store must have the acknowledged writes.
func TestPebbleThatCannotLog(t *testing.T) {
	for _, writers := range []int{1, 4} {
		t.Run(fmt.Sprint(writers), func(t *testing.T) {
			dir := t.TempDir()
			var full atomic.Bool
			e, err := compat.Open("pebble", dir, compat.Options{Pebble: fullLog(&full)})
			check(t, err)
			check(t, e.Put([]byte("k"), []byte("v")))
			full.Store(true)
			var group sync.WaitGroup
			for w := range writers {
				group.Go(func() {
					for range 3 {
						if err := e.Put(fmt.Append(nil, w), []byte("lost")); !errors.Is(err, compat.ErrFailed) {
							t.Errorf("Put: %v, want ErrFailed", err)
						}
					}
				})
			}
			waitFor(t, &group)
			if err := e.Delete([]byte("k")); !errors.Is(err, compat.ErrFailed) {
				t.Errorf("Delete: %v, want ErrFailed", err)
			}
			if v, err := e.Get(nil, []byte("k")); err != nil || string(v) != "v" {
				t.Errorf("Get after the failure: %q, %v", v, err)
			}
			e.Close() // may report the failure again
			e = open(t, "pebble", dir, compat.Options{})
			if v, err := e.Get(nil, []byte("k")); err != nil || string(v) != "v" {
				t.Errorf("Get after reopening: %q, %v", v, err)
			}
		})
	}
}

// fullLog makes writes to the log fail with ENOSPC once full is set.
func fullLog(full *atomic.Bool) func(*pebble.Options) {
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		isLog := strings.HasSuffix(filepath.Base(op.Path), ".log")
		if full.Load() && isLog && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return syscall.ENOSPC
		}
		return nil
	})
	return func(o *pebble.Options) { o.FS = errorfs.Wrap(o.FS, inject) }
}

func waitFor(t *testing.T, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(effort.Hang):
		t.Fatal("writers hang")
	}
}
