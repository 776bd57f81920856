package main

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
)

// mountSmall mounts a file system of the given size at dir, and returns a function that unmounts
// it.
func mountSmall(t *testing.T, dir string, bytes int64) (unmount func()) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		effort.NotTested(t, "no small file system: %v", err)
	}
	return func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}
