// Pager serves the faults of transparent maps over a device of its own: the kind "xored", a file
// whose bytes are not stored as they are. A program names it in PagedOptions.Pager.
package main

import "nvkv/nvmap"

func main() {
	nvmap.RegisterDevice("xored", openXored)
	nvmap.ServePager()
}

// xored is a file whose bytes are inverted on the medium.
type xored struct{ nvmap.Device }

func openXored(path string, o nvmap.OpenOptions) (nvmap.Device, error) {
	o.Kind = "file"
	d, err := nvmap.OpenDevice(path, o)
	return xored{d}, err
}

// Mapping is nil: the CPU cannot read this device in place.
func (x xored) Mapping() []byte { return nil }

func (x xored) Read(off nvmap.Off, p []byte) error {
	err := x.Device.Read(off, p)
	invert(p, p)
	return err
}

func (x xored) Write(off nvmap.Off, p []byte) error {
	q := make([]byte, len(p))
	invert(q, p)
	return x.Device.Write(off, q)
}

func invert(to, from []byte) {
	for i := range from {
		to[i] = ^from[i]
	}
}
