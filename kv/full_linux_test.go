package kv

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullFileSystem is TestFull on a small tmpfs of its own, where what is full
// is the file system.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("nvkv-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("NOT TESTED, a full file system: mounting a tmpfs: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	fillStore(t, filepath.Join(dir, "s"), nil)
	if err := os.Remove(filepath.Join(dir, "s")); err != nil {
		t.Error(err)
	}
}
