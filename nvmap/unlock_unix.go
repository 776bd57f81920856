//go:build unix

package nvmap

import "golang.org/x/sys/unix"

// Unlock releases the lock of the file and leaves everything else in place. It is for a store that
// has been closed while slices that alias the mapping are still being read: another process may
// then open the store. Nothing may be written after Unlock.
func (m *fileMap) Unlock() error {
	return retryIntr(func() error { return unix.Flock(int(m.locked().Fd()), unix.LOCK_UN) })
}
