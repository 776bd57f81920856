package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// memoryGroups are where a memory cgroup can be made, and the files in one that
// limit it and take a process in.
var memoryGroups = []struct{ dir, limit string }{
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
	{"/sys/fs/cgroup", "memory.max"},                   // version 2
}

// limitMemory moves this process to a memory cgroup of its own. What it touches
// from now on, pages of files included, may be bytes at most; what it has stays
// with the group that it came from. The group is removed by sweepGroups.
func limitMemory(bytes int64) error {
	var errs []error
	for _, g := range memoryGroups {
		dir := filepath.Join(g.dir, fmt.Sprintf("nvkv-bench-%d", os.Getpid()))
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = errors.Join(
				os.WriteFile(filepath.Join(dir, g.limit), []byte(strconv.FormatInt(bytes, 10)), 0),
				os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
			if err == nil {
				return nil
			}
			err = errors.Join(err, os.Remove(dir))
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no memory cgroup can be made: %w", errs[0])
}

// sweepGroup removes the group of a process that has ended.
func sweepGroup(pid int) {
	for _, g := range memoryGroups {
		_ = os.Remove(filepath.Join(g.dir, fmt.Sprintf("nvkv-bench-%d", pid)))
	}
}

// forgetPages has the kernel drop what it has cached of a file, so that whoever
// reads it next is charged for it.
func forgetPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}
