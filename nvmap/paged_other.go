//go:build !linux || (!amd64 && !arm64)

package nvmap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// Paged is the bytes of a device as a plain slice: the transparent map. It exists on Linux only, on
// amd64 and arm64.
type Paged struct{}

// PagedSupported returns an error: this system has no userfaultfd.
func PagedSupported() error {
	return fmt.Errorf("nvmap: the transparent map needs userfaultfd, which %s on %s does not have: %w",
		runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}

// OpenPaged returns an error: see PagedSupported.
func OpenPaged(path string, o *PagedOptions) (*Paged, error) { return nil, PagedSupported() }

// ServePager ends the process with an error: see PagedSupported.
func ServePager() {
	fmt.Fprintln(os.Stderr, PagedSupported())
	os.Exit(2)
}

// These methods have no map to work on.

func (p *Paged) Bytes() []byte                           { return nil }
func (p *Paged) Size() int64                             { return 0 }
func (p *Paged) PrefaultRead(off, n int64) error         { return PagedSupported() }
func (p *Paged) PrefaultWrite(off, n int64) error        { return PagedSupported() }
func (p *Paged) Advise(off, n int64, a Advice) error     { return PagedSupported() }
func (p *Paged) Sync() error                             { return PagedSupported() }
func (p *Paged) Grow(size int64) error                   { return PagedSupported() }
func (p *Paged) ReadAt(b []byte, off int64) (int, error) { return 0, PagedSupported() }
func (p *Paged) WriteAt(b []byte, off int64) (int, error) {
	return 0, PagedSupported()
}
func (p *Paged) Faulted(r any, op string) error { panic(r) }
func (p *Paged) Stats() PagedStats              { return PagedStats{} }
func (p *Paged) Device() Device                 { return nil }
func (p *Paged) Close() error                   { return nil }
