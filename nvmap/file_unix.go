//go:build unix

package nvmap

import (
	"os"
	"sync"
)

// fileDevice is a file on any file system. It is read in place through a shared mapping of the page
// cache, written with pwrite, and made durable by fdatasync.
//
// Writes are staged. They reach the file, and with it the mapping, when the Fence after them
// returns or sooner. A run of neighbouring writes costs one system call.
type fileDevice struct {
	*fileMap

	stageMu sync.Mutex // guards stage, and the order of writes to the file
	stage   stage
}

func newFile(fm *fileMap) Device {
	d := &fileDevice{fileMap: fm}
	d.stage.file = fm
	releaseWith(d, fm)
	return d
}

func (d *fileDevice) Info() Info {
	return Info{
		Kind:     "file",
		Path:     d.path,
		Why:      d.why,
		Mapped:   true,
		Domain:   "what fdatasync reaches: the disk, if it and the file system keep their word",
		Mover:    "pwrite",
		Unit:     PageBytes,
		Sector:   PageBytes,
		MaxBytes: d.maxBytes(),
		Scant:    d.scant(),
		Note:     "the disk writes whole sectors; bytes beside a write are assumed to survive a power failure in the middle of it",
		Protect:  d.words(),
	}
}

func (d *fileDevice) words() string {
	if d.Protection() == ProtectNone {
		return protectNone
	}
	return "the mapping is read-only; writes go through the file"
}

func (d *fileDevice) Read(off Off, p []byte) error {
	if err := d.flushOver(off, int64(len(p))); err != nil {
		return err
	}
	return d.fileMap.Read(off, p)
}

// flushOver writes the staged bytes to the file if they touch [off, off+n).
func (d *fileDevice) flushOver(off Off, n int64) error {
	d.stageMu.Lock()
	defer d.stageMu.Unlock()
	if !d.stage.touches(int64(off), n) {
		return nil
	}
	return d.stage.flush()
}

func (d *fileDevice) Write(off Off, p []byte) error {
	if err := d.checkWrite("write", off, int64(len(p))); err != nil {
		return err
	}
	d.stageMu.Lock()
	defer d.stageMu.Unlock()
	return d.stage.write(int64(off), p)
}

func (d *fileDevice) Fence() error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case d.ro:
		return nil
	}
	d.stageMu.Lock()
	err := d.stage.flush()
	d.stageMu.Unlock()
	if err != nil {
		return err
	}
	if err := d.publish(); err != nil {
		return err
	}
	if err := d.dataSync(); err != nil {
		return &FaultError{Op: "fence", Err: err}
	}
	return nil
}

// Show writes the staged bytes to the file, and so to the mapping.
func (d *fileDevice) Show() error {
	d.stageMu.Lock()
	defer d.stageMu.Unlock()
	return d.stage.flush()
}

// Discard flushes first, because a staged write would fill the hole again.
func (d *fileDevice) Discard(off Off, n int64) error {
	if err := d.flushOver(off, n); err != nil {
		return err
	}
	return d.fileMap.Discard(off, n)
}

// Close drops writes that are still staged. Like any device, it promises nothing about writes that
// were not fenced.
func (d *fileDevice) Close() error { return d.close() }

// writeZeros writes n zero bytes at off.
func writeZeros(f *os.File, off, n int64) error {
	zeros := make([]byte, min(max(n, 0), 1<<20))
	for n > 0 {
		k, err := f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off += int64(k)
		n -= int64(k)
	}
	return nil
}
