package kv

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// TestFullFileSystem is TestFull on a small tmpfs of its own: here the file system is full.
func TestFullFileSystem(t *testing.T) {
	dir := smallFileSystem(t)
	fillStore(t, filepath.Join(dir, "s"), nil)
}

// smallFileSystem mounts a tmpfs of 16 MiB for the test.
func smallFileSystem(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("nvkv-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		effort.NotTested(t, "a full file system: mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDeletesOnAFileSystemFilledByOthers: a store gives blocks back, other files take them, and the
// store is opened again. Puts may find no room then, but the room for deletes was kept.
func TestDeletesOnAFileSystemFilledByOthers(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			dir := smallFileSystem(t)
			path := filepath.Join(dir, "s")
			db, err := Open(path, &Options{tidySlack: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() }) // before unmounting, if the test ends early
			m := model{}
			fillFull(t, db, m, "a", 300)
			n := 0
			for _, k := range slices.Sorted(maps.Keys(m)) { // delete nine of ten
				if n++; n%10 == 0 {
					continue
				}
				if err := db.Delete([]byte(k)); err != nil {
					t.Fatal(err)
				}
				delete(m, k)
			}
			must(t, db.Compact(t.Context())) // the evacuator may rest before there is as little
			for deadline := time.Now().Add(effort.Hang); allocated(t, path) > 8<<20; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d bytes of blocks, nothing was given back: %+v", allocated(t, path), db.Metrics())
				}
			}
			if killed {
				abandonFile(t, db)
			} else if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			fillFileSystem(t, filepath.Join(dir, "others"))

			if db, err = Open(path, &Options{EvacuateBytes: -1}); err != nil {
				t.Fatalf("opening a store on a full file system: %v", err)
			}
			m.compare(t, db)
			for _, size := range []int{50, 700, 5000, 200_000} {
				fillFull(t, db, m, fmt.Sprint("b", size, "/"), size)
			}
			for k := range m {
				if err := db.Delete([]byte(k)); err != nil {
					t.Fatalf("a delete on a full file system: %v", err)
				}
			}
			model{}.compare(t, db)
			mustCheck(t, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// fillFileSystem writes a file until the file system is full.
func fillFileSystem(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 4096); ; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
