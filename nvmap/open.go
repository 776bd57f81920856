package nvmap

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// OpenOptions say how OpenDevice opens; the zero value opens what is there for
// writing, with a lock.
type OpenOptions struct {
	// Kind asks for a kind of device: "mem", "shm", "file", "dax", "devdax",
	// "pcie" or "block". Empty: detected from the path.
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
	// system grants. Devices of fixed size have that size, whatever is asked.
	MaxBytes int64

	// NoLock leaves the lock to the caller, who knows that nobody else writes.
	NoLock bool
}

// OpenDevice opens the device at path. What it detects:
//
//	a resource file of a PCI device in sysfs    pcie
//	a character device of the DAX subsystem     devdax
//	a block device                              block
//	a regular file that MAP_SYNC can map        dax
//	a regular file on tmpfs or hugetlbfs        shm
//	any other regular file                      file
//
// A kind that is asked for is what is opened, or the error says why it cannot
// be. "block" may be asked for on a regular file; "mem" must be, and needs no
// path. A path that cannot hold a store is an error that names it. Where another
// user holds the lock the error is ErrLocked.
//
// Opening changes nothing of what is there: whether it may be written over is
// for the caller to find out.
func OpenDevice(path string, o OpenOptions) (Device, error) {
	switch o.Kind {
	case "mem":
		return newMem(o.MaxBytes)
	case "", "shm", "file", "dax", "devdax", "pcie", "block":
	default:
		return nil, fmt.Errorf("nvmap: %s: no device kind %q; there are mem, shm, file, dax, devdax, pcie and block", path, o.Kind)
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

// site is what a path leads to, in the words of errors.
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

// takes says why the kind cannot be opened at a site.
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

// look finds out what is at path, and refuses what cannot hold a store. It looks
// before anything is opened, because opening a FIFO or a device may have effects.
func look(path string) (site, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return siteFile, nil // opening says so, or creates it
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
