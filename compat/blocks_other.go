//go:build !unix

package compat

import "io/fs"

// allocatedBytes returns the size of a file. This system does not report holes.
func allocatedBytes(info fs.FileInfo) int64 { return info.Size() }
