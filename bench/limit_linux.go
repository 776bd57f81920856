package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// memoryGroups are the directories in which a memory cgroup can be made, and the file of a group
// that sets its limit.
var memoryGroups = []struct{ dir, limit string }{
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
	{"/sys/fs/cgroup", "memory.max"},                   // version 2
}

// limitMemory moves this process to a new memory cgroup. Memory that it touches from now on,
// including pages of files, is limited to bytes. Earlier memory stays with the old group.
// sweepGroup removes the group.
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

// forgetPages makes the kernel drop the cached pages of a file, so that the next reader is charged
// for them.
func forgetPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}
