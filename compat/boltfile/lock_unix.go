//go:build unix && !solaris && !aix

package boltfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockShared takes the lock that bbolt's readers take.
func lockShared(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
