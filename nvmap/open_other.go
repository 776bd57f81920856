//go:build !unix

package nvmap

import (
	"errors"
	"fmt"
	"runtime"
)

// openPath fails: files are read through a mapping, which exists on Unix only.
func openPath(path string, _ site, _ OpenOptions) (Device, error) {
	return nil, fmt.Errorf("nvmap: %s: files are not supported on %s, only the device kind \"mem\": %w",
		path, runtime.GOOS, errors.ErrUnsupported)
}

func isResource(path string) bool { return false }
