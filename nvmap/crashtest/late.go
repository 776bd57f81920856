package crashtest

import (
	"bytes"
	"errors"
	"sync"

	"nvkv/nvmap"
)

// ShowingLate returns a device in memory whose mapping shows a write only when Fence or Show
// returns, like the mapping of a file whose writes are staged. Read sees a write at once. It is for
// Options.Base. It finds code that reads bytes in place before they are fenced.
func ShowingLate(maxBytes int64) nvmap.Device { return &lateDevice{Device: nvmap.NewMem(maxBytes)} }

type lateDevice struct {
	nvmap.Device
	mu     sync.Mutex
	staged []stagedWrite // in order of arrival
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

// Show makes the mapping show all earlier writes.
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
