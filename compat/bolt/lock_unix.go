//go:build unix

package bbolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes the lock that bbolt takes, if nobody has it.
func lock(f *os.File, exclusive bool) (bool, error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}
