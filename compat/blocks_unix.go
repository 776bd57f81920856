//go:build unix

package compat

import (
	"io/fs"
	"syscall"
)

// allocatedBytes returns the bytes of disk blocks behind a file. They are fewer than its size if it
// has holes.
func allocatedBytes(info fs.FileInfo) int64 {
	const unit = 512 // unit of st_blocks, whatever the block size of the file system
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * unit
	}
	return info.Size()
}
