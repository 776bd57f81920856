//go:build unix

package nvmap

// CanTruncate reports whether Truncate works: false for a device of fixed size.
func (d *fileMap) CanTruncate() bool { return d.plan.fixed == 0 }

// Truncate cuts the file to size, which is below Size, durably. The caller keeps readers and
// writers out of the bytes that are cut.
func (d *fileMap) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	if err := d.checkWrite("truncate", Off(size), 0); err != nil {
		return err
	}
	size = roundUp(size, d.unit)
	for _, r := range []*region{d.view, d.alias} {
		if r == nil {
			continue // the kind has no such mapping
		}
		if err := r.hide(size, d.maxBytes()); err != nil {
			return err
		}
	}
	d.size.Store(size)
	d.end.Store(size)
	if err := d.resize(size); err != nil {
		return &FaultError{Off: Off(size), Op: "truncate", Err: err}
	}
	return d.fullSync()
}
