//go:build amd64 || arm64

package nvmap

import "fmt"

// Device returns the map as a device, so that a Map, and an allocator on it, lie on its bytes: reads
// are plain loads, also where the device beneath cannot be mapped. Its fence is Sync. Closing it
// closes p. Unlike other mappings, its Mapping can be stored to: nothing keeps stray stores out.
func (p *Paged) Device() Device { return pagedDevice{p} }

type pagedDevice struct{ p *Paged }

func (d pagedDevice) Info() Info {
	return Info{
		Kind:     "transparent",
		Path:     d.p.path,
		Why:      "a transparent map",
		Mapped:   true,
		Domain:   "what the device beneath promises for its fence",
		Mover:    "copy",
		Unit:     PageBytes,
		Sector:   PageBytes,
		MaxBytes: d.p.c.Space(),
		Note:     "a page that was stored to reaches the device whole, at a fence or before",
		Protect:  "none",
	}
}

func (d pagedDevice) Size() int64           { return d.p.Size() }
func (d pagedDevice) Grow(size int64) error { return d.p.Grow(size) }
func (d pagedDevice) Mapping() []byte       { return d.p.c.Reserved() }
func (d pagedDevice) Fence() error          { return d.p.Sync() }
func (d pagedDevice) Close() error          { return d.p.Close() }

func (d pagedDevice) Read(off Off, b []byte) error {
	if err := d.check("read", off, int64(len(b))); err != nil {
		return err
	}
	_, err := d.p.ReadAt(b, int64(off))
	return err
}

func (d pagedDevice) Write(off Off, b []byte) error {
	if err := d.check("write", off, int64(len(b))); err != nil {
		return err
	}
	_, err := d.p.WriteAt(b, int64(off))
	return err
}

// Discard keeps the bytes.
func (d pagedDevice) Discard(off Off, n int64) error { return d.check("discard", off, n) }

func (d pagedDevice) Allocate(off Off, n int64) error { return d.check("allocate", off, n) }

func (d pagedDevice) check(op string, off Off, n int64) error {
	if off > Off(1)<<62 {
		return fmt.Errorf("nvmap: %s of %d bytes at %#x is outside the map (%d bytes)", op, n, uint64(off), d.p.Size())
	}
	return d.p.check(op, int64(off), n)
}
