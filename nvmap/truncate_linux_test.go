package nvmap_test

import (
	"testing"

	"nvkv/nvmap"
)

type truncater interface {
	CanTruncate() bool
	Truncate(size int64) error
}

// TestTruncate checks that a file can be truncated with every set of mappings, and that bytes added
// later are zero.
func TestTruncate(t *testing.T) {
	for _, kind := range []string{"file", "shm", "block", "sim over block"} {
		t.Run(kind, func(t *testing.T) {
			d := kinds[kind](t)
			if err := d.Grow(16 * nvmap.PageBytes); err != nil {
				t.Fatal(err)
			}
			size := d.Size()
			write(t, d, 100, "kept")
			write(t, d, nvmap.Off(size)-100, "cut")
			fence(t, d)
			cut, ok := d.(truncater)
			if !ok || !cut.CanTruncate() {
				t.Fatal("it cannot be cut")
			}
			if err := cut.Truncate(4 * nvmap.PageBytes); err != nil {
				t.Fatal(err)
			}
			if d.Size() != 4*nvmap.PageBytes {
				t.Errorf("cut to %d bytes", d.Size())
			}
			if err := d.Grow(size); err != nil {
				t.Fatal(err)
			}
			p, q := make([]byte, 4), make([]byte, 3)
			if err := d.Read(100, p); err != nil || string(p) != "kept" {
				t.Errorf("kept: %q, %v", p, err)
			}
			if err := d.Read(nvmap.Off(size)-100, q); err != nil || string(q) != "\x00\x00\x00" {
				t.Errorf("grown again: %q, %v", q, err)
			}
		})
	}
}

func TestFixedSizeIsNotCut(t *testing.T) {
	if d, ok := posingWindow(t, 16<<20).(truncater); ok && d.CanTruncate() {
		t.Error("a window of a PCI device can be cut")
	}
}
