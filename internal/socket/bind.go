package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxPathBytes is the longest path that the kernel takes for a socket.
const maxPathBytes = len(syscall.RawSockaddrUnix{}.Path) - 1

// CheckPath returns an error for a path that cannot be one of a socket.
func CheckPath(path string) error {
	switch {
	case len(path) > maxPathBytes:
		return fmt.Errorf("socket %s: the path has %d bytes, and the system takes %d at most", path, len(path), maxPathBytes)
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("socket %q: a zero byte in the path", path)
	}
	return nil
}

// address returns the address of path. A name that begins with @ would be one outside the file
// system.
func address(path string) *net.UnixAddr {
	if strings.HasPrefix(path, "@") {
		path = "./" + path
	}
	return &net.UnixAddr{Name: path, Net: "unix"}
}

// bind makes the socket at path, for its owner only. It replaces one at which nobody listens: the
// file of a process that was killed.
func bind(path string) (*net.UnixListener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	// Two processes that find the same stale file must not remove each other's new one.
	defer lockDirectory(filepath.Dir(path))()
	l, err := listen(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return listen(path)
}

func listen(path string) (*net.UnixListener, error) {
	c := net.ListenConfig{Control: restrict}
	l, err := c.Listen(context.Background(), "unix", address(path).Name)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, plain(err))
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)                     // the server removes it only if it is its own
	if err := os.Chmod(path, 0o600); err != nil { // for systems on which restrict does nothing
		u.Close()
		os.Remove(path)
		return nil, err
	}
	return u, nil
}

// removeStale removes the socket at path if nobody listens there.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // its owner has ended just now
	case err != nil:
		return fmt.Errorf("socket: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("socket %s: a file is there already, and it is no socket", path)
	}
	c, err := net.DialUnix("unix", nil, address(path))
	if err == nil {
		c.Close()
		return fmt.Errorf("socket %s: another store or program answers there already", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s: in use, or of somebody else: %w", path, plain(err))
	}
	return os.Remove(path)
}

// plain returns the error of the system call without the operation and the path.
func plain(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
