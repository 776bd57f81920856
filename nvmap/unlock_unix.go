//go:build unix

package nvmap

import "golang.org/x/sys/unix"

// Unlock gives the lock of the file back and leaves everything else in place:
// the store has been closed, somebody may open it again, and slices that alias
// the mapping are still being read. Nothing may be written any more.
func (m *fileMap) Unlock() error {
	return retryIntr(func() error { return unix.Flock(int(m.locked().Fd()), unix.LOCK_UN) })
}
