//go:build unix

package nvmap

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nvkv/internal/filegate"
)

// openPath opens the file at path as the kind asked for or detected. It waits for a lock as
// OpenOptions.LockTimeout says.
func openPath(path string, at site, o OpenOptions) (Device, error) {
	began := time.Now()
	for pause := lockPauseLeast; ; pause = min(2*pause, lockPauseMost) {
		d, err := openOnce(path, at, o)
		wait := o.LockTimeout
		if dead := new(deadHolder); errors.As(err, &dead) {
			wait = max(wait, deadHolderWait)
		}
		left := wait - time.Since(began)
		if err == nil || left <= 0 || !errors.Is(err, ErrLocked) {
			return d, err
		}
		time.Sleep(min(pause, left))
	}
}

const (
	lockPauseLeast = time.Millisecond
	lockPauseMost  = 50 * time.Millisecond

	// deadHolderWait is how long openPath waits for the lock of a process that has ended. The
	// kernel keeps the file open until it has torn down the io_uring requests in flight; 1.4 s have
	// been seen.
	deadHolderWait = 5 * time.Second
)

// deadHolder is an ErrLocked where no living process is known to hold the lock.
type deadHolder struct{ error }

func (e *deadHolder) Unwrap() error { return e.error }

func openOnce(path string, at site, o OpenOptions) (Device, error) {
	f, created, err := openFile(path, at, o)
	if err != nil {
		return nil, err
	}
	d, err := newDevice(f, path, at, o)
	if err != nil {
		if created { // it is locked, so nothing else has written to it
			os.Remove(path)
		}
		f.Close()
		return nil, err
	}
	return d, nil
}

// openFile opens the file at path, checks that it still is at that site, and locks it. It reports
// whether it created the file.
func openFile(path string, at site, o OpenOptions) (f *os.File, created bool, err error) {
	// Non-blocking, because the file may have become a FIFO since look.
	flags := os.O_RDWR | unix.O_NONBLOCK
	mode := cmp.Or(o.FileMode, 0o600)
	switch {
	case o.ReadOnly:
		flags = os.O_RDONLY | unix.O_NONBLOCK
	case at == siteBlock && !o.NoLock:
		flags |= os.O_EXCL // refused while the disk is mounted or part of another device
	case at == siteFile && o.Create:
		f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, mode)
		created = err == nil
		flags |= os.O_CREATE
	}
	if !created {
		f, err = os.OpenFile(path, flags, mode)
	}
	if errors.Is(err, unix.EBUSY) {
		return nil, false, fmt.Errorf("%w: %s is mounted, or in use as part of another device: %w", ErrLocked, path, err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("nvmap: %w", err)
	}
	if err := checkOpened(f, path, at, o); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, created, nil
}

func checkOpened(f *os.File, path string, at site, o OpenOptions) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("nvmap: %w", err)
	}
	now, err := siteOf(path, fi.Mode())
	if err == nil && now != at {
		err = fmt.Errorf("nvmap: %s: it was %s, and is %s now", path, at, now)
	}
	if err != nil || o.NoLock || at == siteResource {
		return err // a resource has two names, so newPCIe locks it
	}
	return lockFile(f, path, o.ReadOnly)
}

// newDevice makes a device of an open, locked file. The caller closes the file if newDevice fails.
func newDevice(f *os.File, path string, at site, o OpenOptions) (Device, error) {
	fm := &fileMap{f: f, path: path, why: "asked for", gate: filegate.Of(path)}
	var err error
	if fm.mover, err = moverNamed(o.Mover); err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", path, err)
	}
	if at != siteFile {
		return newHardware(fm, at, o)
	}
	fs, err := fileSystem(f)
	if err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", path, err)
	}
	fm.unit, fm.dir = fs.unit, directoryOf(path)
	kind := o.Kind
	if kind == "" {
		kind, fm.why = detect(f, fs)
	}
	if kind != "file" {
		return newFileOfKind(fm, kind, fs, o)
	}
	fm.plan = mapPlan{view: true, zeroed: isDAX(fm.f)}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	return newFile(fm), nil
}

// directoryOf returns the directory of the file at path, as an absolute path without symbolic links
// if possible.
func directoryOf(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Dir(path)
}

// detect chooses the kind of a regular file, and says why.
func detect(f *os.File, fs fsInfo) (kind, why string) {
	switch {
	case fs.memory:
		return "shm", "a file on " + fs.name
	case takesMapSync(f):
		return "dax", "a file on " + fs.name + " that MAP_SYNC can map"
	}
	return "file", "a file on " + fs.name
}

// lockFile takes the advisory lock of f, shared or exclusive, without waiting. Closing f or ending
// the process releases it.
func lockFile(f *os.File, path string, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err := retryIntr(func() error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EWOULDBLOCK):
		holder, lives := lockHolder(f)
		err = fmt.Errorf("%w: %s%s", ErrLocked, path, holder)
		if !lives {
			err = &deadHolder{err}
		}
		return err
	}
	return fmt.Errorf("nvmap: locking %s: %w", path, err)
}

// retryIntr repeats a system call that a signal interrupted.
func retryIntr(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
