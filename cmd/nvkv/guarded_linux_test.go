package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nvkv/internal/effort"
)

// TestConvertPebbleFullDisk checks the command on a full disk, where pebble panics, also in its own
// goroutines. The command must print one line, exit with 1 and leave no files.
func TestConvertPebbleFullDisk(t *testing.T) {
	var in strings.Builder
	for i := range 30_000 { // more than a megabyte, which pebble cannot compress
		fmt.Fprintf(&in, "key%08d\t%x\n", i, uint64(i+1)*0x9e3779b97f4a7c15)
	}
	from := newFile(t, "in.txt", in.String())
	for _, size := range []string{"64k", "300k", "900k"} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); errors.Is(err, syscall.EPERM) {
			effort.NotTested(t, "mounting a small file system takes root")
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // before TempDir's own
		fails(t, exitFailed, []string{"no space left"}, "convert", "--from", "lines:"+from, "--to", "pebble:"+dir+"/p")
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", size, left)
		}
	}
}

// TestGuardedEnds checks that the end of a child is reported in one line, and that its temporary
// files are removed, except a store that it had set aside.
func TestGuardedEnds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".nvkv-convert-7-a/new", ".nvkv-convert-7-b/old", ".nvkv-convert-8-c/new"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeStage(filepath.Join(dir, ".nvkv-convert-7-*")); err == nil || !strings.Contains(err.Error(), "7-b") {
		t.Errorf("a store that was set aside: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".nvkv*"))
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}
