package compat

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"nvkv/internal/lastwords"
)

// countingFS counts the bytes and syncs that pebble requests of its file system. Pebble's own
// metrics have log and table bytes, but not the manifest and the syncs of tables and directories.
type countingFS struct {
	vfs.FS
	bytes atomic.Uint64
	syncs atomic.Uint64
}

func (c *countingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return c.wrap(c.FS.Create(name, category))
}

func (c *countingFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return c.wrap(c.FS.OpenReadWrite(name, category, opts...))
}

func (c *countingFS) OpenDir(name string) (vfs.File, error) {
	return c.wrap(c.FS.OpenDir(name))
}

func (c *countingFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return c.wrap(c.FS.ReuseForWrite(oldname, newname, category))
}

func (c *countingFS) Unwrap() vfs.FS { return c.FS }

func (c *countingFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, lastwords.Tell(err)
	}
	return &countingFile{f, c}, nil
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f *countingFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.fs.bytes.Add(uint64(n))
	return n, lastwords.Tell(err)
}

func (f *countingFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.fs.bytes.Add(uint64(n))
	return n, lastwords.Tell(err)
}

func (f *countingFile) Sync() error {
	f.fs.syncs.Add(1)
	return lastwords.Tell(f.File.Sync())
}

func (f *countingFile) SyncData() error {
	f.fs.syncs.Add(1)
	return lastwords.Tell(f.File.SyncData())
}

// SyncTo counts only if it waited for the medium. Otherwise it only starts write-back.
func (f *countingFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	if full {
		f.fs.syncs.Add(1)
	}
	return full, lastwords.Tell(err)
}
