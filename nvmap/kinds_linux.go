package nvmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newHardware makes a device from a device file.
func newHardware(fm *fileMap, at site, o OpenOptions) (Device, error) {
	if o.Kind == "" {
		fm.why = map[site]string{
			siteChar:     "a character device of the DAX subsystem",
			siteResource: "memory behind a PCI device, in sysfs",
			siteBlock:    "a block device",
		}[at]
	}
	switch at {
	case siteChar:
		return newDevDAX(fm, o)
	case siteResource:
		return newPCIe(fm, o)
	}
	return newBlock(fm, at, fsInfo{}, o)
}

// newFileOfKind makes a device of the given kind from a regular file on fs.
func newFileOfKind(fm *fileMap, kind string, fs fsInfo, o OpenOptions) (Device, error) {
	switch kind {
	case "block":
		return newBlock(fm, siteFile, fs, o)
	case "dax":
		if !takesMapSync(fm.f) {
			return nil, fmt.Errorf("nvmap: %s: device kind \"dax\" needs a file system on memory, mounted with DAX; %s refuses MAP_SYNC here: %w", fm.path, fs.name, errors.ErrUnsupported)
		}
		return newDAX(fm, o)
	}
	if !fs.memory {
		return nil, fmt.Errorf("nvmap: %s: device kind \"shm\" needs a file system in memory; %s is none, and a fence would not reach its disk: %w", fm.path, fs.name, errors.ErrUnsupported)
	}
	fm.plan = mapPlan{view: true, alias: true, gather: true}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	return newShm(fm), nil
}

// takesMapSync reports whether f can be mapped with MAP_SYNC.
func takesMapSync(f *os.File) bool {
	at, err := unix.MmapPtr(int(f.Fd()), 0, nil, PageBytes, unix.PROT_READ, mapSynced)
	if err != nil {
		return false
	}
	return unix.MunmapPtr(at, PageBytes) == nil
}
