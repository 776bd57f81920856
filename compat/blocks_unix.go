//go:build unix

package compat

import (
	"io/fs"
	"syscall"
)

// allocatedBytes returns the bytes of disk blocks behind a file, which are
// fewer than its size where it has holes.
func allocatedBytes(info fs.FileInfo) int64 {
	const unit = 512 // of st_blocks, whatever the file system's block size
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * unit
	}
	return info.Size()
}
