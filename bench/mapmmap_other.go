//go:build !unix

package bench

import "errors"

func openMmap(path string, size int64) (mapTarget, error) { return nil, errors.ErrUnsupported }

func adviseReads(b []byte, random bool) {}
