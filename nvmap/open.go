package nvmap

import (
	"errors"
	"fmt"
	"os"
)

// OpenOptions say how OpenDevice opens; the zero value opens what is there for
// writing, with a lock.
type OpenOptions struct {
	// Kind asks for a kind of device: "mem", "shm" or "file". Empty: detected
	// from the path.
	Kind string

	// Mover asks for the way bytes travel to memory: "nt", "store+clwb" and so
	// on, as the CPU has it, or "copy". Empty: the best. Kinds that are written
	// with system calls do not look at it.
	Mover string

	// Protect says what keeps stray stores away from the medium. The zero value
	// is the best that this machine has. Info.Protect says what is in force.
	Protect Protection

	// ReadOnly shares the lock with other readers and refuses to change anything.
	ReadOnly bool

	// Create makes an absent file, empty. The caller formats it. Nothing else
	// is created; with ReadOnly it means nothing.
	Create bool

	// MaxBytes bounds the size the device can grow to and costs address space
	// only. It is rounded up to a power of two. 0: 1 TiB, or as much as the
	// system grants.
	MaxBytes int64

	// NoLock leaves the lock to the caller, who knows that nobody else writes.
	NoLock bool
}

// OpenDevice opens the device at path. A regular file on tmpfs or hugetlbfs is
// opened as "shm", any other as "file"; "mem" must be asked for and needs no
// path.
//
// A path that cannot hold a store is an error that names it. Where another user
// holds the lock the error is ErrLocked.
func OpenDevice(path string, o OpenOptions) (Device, error) {
	switch o.Kind {
	case "mem":
		return newMem(o.MaxBytes)
	case "", "shm", "file":
	case "dax", "devdax", "pcie", "block":
		return nil, fmt.Errorf("nvmap: %s: device kind %q is not supported yet: %w", path, o.Kind, errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("nvmap: %s: no device kind %q; there are mem, shm and file", path, o.Kind)
	}
	if path == "" {
		return nil, errors.New("nvmap: no path given")
	}
	if err := checkPath(path); err != nil {
		return nil, err
	}
	return openPath(path, o)
}

// checkPath refuses what is there and cannot hold a store. It looks before
// anything is opened, because opening a FIFO or a device may have effects.
func checkPath(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // opening says so, or creates it
	}
	if err != nil {
		return fmt.Errorf("nvmap: %w", err)
	}
	return checkMode(path, fi.Mode())
}

func checkMode(path string, mode os.FileMode) error {
	what := ""
	switch {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&os.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&os.ModeSocket != 0:
		what = "a socket"
	case mode&os.ModeCharDevice != 0:
		what = "a character device, which is not supported yet"
	case mode&os.ModeDevice != 0:
		what = "a block device, which is not supported yet"
	default:
		what = "not a regular file"
	}
	return fmt.Errorf("nvmap: %s: cannot hold a store: it is %s", path, what)
}
