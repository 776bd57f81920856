//go:build unix && !linux

package nvmap

import (
	"errors"
	"fmt"
	"os"
)

// newHardware and newFileOfKind fail, because their kinds need Linux.
func newHardware(fm *fileMap, at site, o OpenOptions) (Device, error) {
	return nil, fmt.Errorf("nvmap: %s: %s needs Linux: %w", fm.path, at, errors.ErrUnsupported)
}

func newFileOfKind(fm *fileMap, kind string, fs fsInfo, o OpenOptions) (Device, error) {
	return nil, fmt.Errorf("nvmap: %s: device kind %q needs Linux: %w", fm.path, kind, errors.ErrUnsupported)
}

func isResource(path string) bool { return false }

func takesMapSync(f *os.File) bool { return false }
