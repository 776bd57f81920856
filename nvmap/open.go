package nvmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// OpenOptions are choices for OpenDevice. The zero value opens an existing device for writing, with
// a lock.
type OpenOptions struct {
	// Kind is the kind of device: "mem", "shm", "file", "dax", "devdax", "pcie" or "block". Empty:
	// detected from the path.
	Kind string

	// Mover names the instructions that carry bytes to memory: "nt", "store+clwb" and so on, if the
	// CPU has them, or "copy". Empty: the best. Kinds that are written with system calls ignore it.
	Mover string

	// Protect says how stray stores are kept away from the medium. The zero value is the best
	// protection of this machine. Info.Protect reports the one in force.
	Protect Protection

	// ReadOnly shares the lock with other readers and refuses all changes.
	ReadOnly bool

	// Create makes an absent file, empty. The caller formats it. Create makes nothing else, and
	// with ReadOnly it has no effect.
	Create bool

	// FileMode is the mode of a file that Create makes, less the bits of the process's umask. 0:
	// 0600.
	FileMode fs.FileMode

	// MaxBytes bounds the size of the device. It costs address space only, at most twice its value.
	// 0: 1 TiB, or less, down to 16 GiB, where the process has much address space reserved already;
	// see Info.Scant. A device of fixed size ignores it.
	MaxBytes int64

	// LockTimeout is how long OpenDevice waits for a lock that another user holds. 0: it does not
	// wait. For the lock of a process that has ended it always waits a few seconds, because the
	// kernel may be slow to release it.
	LockTimeout time.Duration

	// NoLock takes no lock. The caller ensures that nothing else writes to the device.
	NoLock bool
}

// OpenDevice opens the device at path. It detects the kind:
//
//	a resource file of a PCI device in sysfs    pcie
//	a character device of the DAX subsystem     devdax
//	a block device                              block
//	a regular file that MAP_SYNC can map        dax
//	a regular file on tmpfs or hugetlbfs        shm
//	any other regular file                      file
//
// If Kind is set, OpenDevice opens that kind or returns an error that says why it cannot. "block"
// may be asked for on a regular file. "mem" must be asked for, and needs no path. So must kinds
// that [RegisterDevice] added. For a path that
// cannot hold a store the error names the path. If another user holds the lock, the error is
// ErrLocked.
//
// Opening does not change existing contents. The caller decides whether they may be overwritten.
func OpenDevice(path string, o OpenOptions) (Device, error) {
	if open := registeredDevice(o.Kind); open != nil {
		return open(path, o)
	}
	switch o.Kind {
	case "mem":
		return newMem(o.MaxBytes)
	case "", "shm", "file", "dax", "devdax", "pcie", "block":
	default:
		return nil, fmt.Errorf("nvmap: %s: no device kind %q; there are mem, shm, file, dax, devdax, pcie and block", path, o.Kind)
	}
	if o.FileMode&^fs.ModePerm != 0 {
		return nil, fmt.Errorf("nvmap: %s: file mode %v has more than bits of permission", path, o.FileMode)
	}
	if path == "" {
		return nil, errors.New("nvmap: no path given")
	}
	at, err := look(path)
	if err != nil {
		return nil, err
	}
	if err := at.takes(path, o.Kind); err != nil {
		return nil, err
	}
	return openPath(path, at, o)
}

// site is the kind of file that a path leads to, as error texts name it.
type site string

const (
	siteFile     site = "a regular file"
	siteChar     site = "a character device"
	siteBlock    site = "a block device"
	siteResource site = "a resource of a PCI device"
)

// siteKinds are the kinds that can be opened at each site.
var siteKinds = map[site][]string{
	siteFile:     {"file", "shm", "dax", "block"},
	siteChar:     {"devdax"},
	siteBlock:    {"block"},
	siteResource: {"pcie"},
}

// takes returns an error if the kind cannot be opened at a site.
func (s site) takes(path, kind string) error {
	if kind == "" || slices.Contains(siteKinds[s], kind) {
		return nil
	}
	for other, kinds := range siteKinds {
		if slices.Contains(kinds, kind) {
			return fmt.Errorf("nvmap: %s: device kind %q is for %s, and this is %s", path, kind, other, s)
		}
	}
	return fmt.Errorf("nvmap: %s: %s cannot be opened as %q", path, s, kind)
}

// look returns the kind of file at path, or an error if it cannot hold a store. It does so before
// opening, because opening a FIFO or a device may have effects.
func look(path string) (site, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return siteFile, nil // opening reports this, or creates the file
	}
	if err != nil {
		return "", fmt.Errorf("nvmap: %w", err)
	}
	return siteOf(path, fi.Mode())
}

func siteOf(path string, mode os.FileMode) (site, error) {
	what := ""
	switch {
	case mode.IsRegular() && isResource(path):
		return siteResource, nil
	case mode.IsRegular():
		return siteFile, nil
	case mode&os.ModeCharDevice != 0:
		return siteChar, nil
	case mode&os.ModeDevice != 0:
		return siteBlock, nil
	case mode.IsDir():
		what = "a directory"
	case mode&os.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&os.ModeSocket != 0:
		what = "a socket"
	default:
		what = "not a regular file"
	}
	return "", fmt.Errorf("nvmap: %s: cannot hold a store: it is %s", path, what)
}
