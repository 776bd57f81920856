//go:build unix && !solaris && !illumos && !aix

package socket

import (
	"os"
	"syscall"
	"time"
)

// restrict gives a socket the mode of its file before the file is there. Linux takes it over.
func restrict(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.Fchmod(int(fd), 0o600) // other systems refuse: there the file's mode is set later
	})
}

// lockDirectory keeps other processes from replacing a socket in the directory at the same time,
// until unlock is called. A directory that cannot be locked soon is not waited for.
func lockDirectory(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range 100 {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { f.Close() }
}
