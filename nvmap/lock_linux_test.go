package nvmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockOfDeadHolder checks that opening waits for the lock of a process that has ended. The test
// keeps the file open for a moment, as the kernel does.
func TestLockOfDeadHolder(t *testing.T) {
	if path := os.Getenv("NVMAP_LOCK_FILE"); path != "" {
		fd, err := strconv.Atoi(os.Getenv("NVMAP_LOCK_FD"))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "s")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestLockOfDeadHolder$")
	child.Env = append(os.Environ(), "NVMAP_LOCK_FILE="+path, "NVMAP_LOCK_FD=3")
	child.ExtraFiles = []*os.File{f} // both share one open file: its lock outlives the child
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	timer := time.AfterFunc(100*time.Millisecond, func() { f.Close() })
	defer timer.Stop()
	d, err := OpenDevice(path, OpenOptions{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("a lock that a dead process had: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockTimeout checks that opening waits for the lock of a living process as long as LockTimeout
// says, and by default not at all.
func TestLockTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := OpenDevice(path, OpenOptions{Create: true, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, time.Millisecond} {
		if _, err := OpenDevice(path, OpenOptions{MaxBytes: 1 << 20, LockTimeout: wait}); !errors.Is(err, ErrLocked) || !strings.HasSuffix(err.Error(), "which is this one") {
			t.Errorf("waiting for %v: %v", wait, err)
		}
	}
	closed := make(chan error)
	go func() { time.Sleep(20 * time.Millisecond); closed <- first.Close() }()
	second, err := OpenDevice(path, OpenOptions{MaxBytes: 1 << 20, LockTimeout: time.Hour})
	if err := errors.Join(err, <-closed); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}
