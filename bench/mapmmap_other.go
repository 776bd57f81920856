//go:build !unix

package bench

import "errors"

func openMmap(path string, size int64) (mapTarget, error) { return nil, errors.ErrUnsupported }

func openPread(path string) (mapTarget, bool, error) { return nil, false, errors.ErrUnsupported }

func adviseReads(b []byte, random bool) {}
