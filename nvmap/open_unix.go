//go:build unix

package nvmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openPath opens a regular file as the kind asked for or detected.
func openPath(path string, o OpenOptions) (Device, error) {
	f, err := openLocked(path, o)
	if err != nil {
		return nil, err
	}
	d, err := newFileDevice(f, path, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// openLocked opens the file and takes its lock.
func openLocked(path string, o OpenOptions) (*os.File, error) {
	// Non-blocking: what was a file a moment ago may be a FIFO now.
	flags := os.O_RDWR | unix.O_NONBLOCK
	switch {
	case o.ReadOnly:
		flags = os.O_RDONLY | unix.O_NONBLOCK
	case o.Create:
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("nvmap: %w", err)
	}
	fi, err := f.Stat()
	if err == nil {
		err = checkMode(path, fi.Mode())
	}
	if err == nil && !o.NoLock {
		err = lockFile(f, path, o.ReadOnly)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockFile takes the advisory lock of f, shared or exclusive, without waiting.
// Closing f gives it back, as does the end of the process.
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
		return fmt.Errorf("%w: %s%s", ErrLocked, path, lockHolder(f))
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
