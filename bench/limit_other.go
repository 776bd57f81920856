//go:build !linux

package bench

import "errors"

func limitMemory(bytes int64) error { return errors.ErrUnsupported }

func sweepGroup(pid int) {}

func forgetPages(path string) error { return nil }
