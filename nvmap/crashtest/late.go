package crashtest

import (
	"bytes"
	"errors"
	"sync"

	"nvkv/nvmap"
)

// ShowingLate returns a device in memory whose mapping shows what was written no
// sooner than Fence or Show returns, as a file's does whose writes are staged; Read
// sees it at once. It is for Options.Base, and finds whoever reads in place what
// has not been fenced.
func ShowingLate(maxBytes int64) nvmap.Device { return &lateDevice{Device: nvmap.NewMem(maxBytes)} }

type lateDevice struct {
	nvmap.Device
	mu     sync.Mutex
	staged []stagedWrite // in the order in which they came
}

type stagedWrite struct {
	off   nvmap.Off
	bytes []byte
}

func (d *lateDevice) Write(off nvmap.Off, p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.staged = append(d.staged, stagedWrite{off, bytes.Clone(p)})
	return nil
}

func (d *lateDevice) Read(off nvmap.Off, p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Device.Read(off, p); err != nil {
		return err
	}
	for _, w := range d.staged {
		from, to := max(off, w.off), min(off+nvmap.Off(len(p)), w.off+nvmap.Off(len(w.bytes)))
		if from < to {
			copy(p[from-off:to-off], w.bytes[from-w.off:])
		}
	}
	return nil
}

// Show makes the mapping show what was written.
func (d *lateDevice) Show() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.staged {
		if err := d.Device.Write(w.off, w.bytes); err != nil {
			return err
		}
	}
	d.staged = nil
	return nil
}

func (d *lateDevice) Fence() error { return errors.Join(d.Show(), d.Device.Fence()) }
