package nvmap

// OpenPosing opens a regular file as if it were a window of a PCI device.
func OpenPosing(path string, o OpenOptions) (Device, error) {
	f, _, err := openFile(path, siteFile, o)
	if err != nil {
		return nil, err
	}
	m, err := moverNamed(o.Mover)
	if err != nil {
		return nil, err
	}
	d, err := openWindow(&fileMap{f: f, path: path, why: "asked for", mover: m}, o)
	if err != nil {
		f.Close()
	}
	return d, err
}

// WithoutRing makes a block device work as where io_uring is not allowed.
func WithoutRing(d Device) Device {
	b := d.(*blockDevice)
	if p, ok := b.pager.(*ringPager); ok {
		p.close()
		b.pager = p.calls
	}
	return d
}
