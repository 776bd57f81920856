//go:build unix

package nvmap

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestUnlockKeepsMapping checks that after Unlock another opener gets the file, and the mapped
// bytes can still be read.
func TestUnlockKeepsMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	first, err := OpenDevice(path, OpenOptions{Create: true, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := errors.Join(first.Grow(PageBytes), first.Write(0, []byte("kept")), first.Fence()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDevice(path, OpenOptions{MaxBytes: 1 << 20}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second opener before Unlock: %v", err)
	}
	if err := first.(interface{ Unlock() error }).Unlock(); err != nil {
		t.Fatal(err)
	}
	second, err := OpenDevice(path, OpenOptions{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("second opener after Unlock: %v", err)
	}
	defer second.Close()
	if got := string(first.Mapping()[:4]); got != "kept" {
		t.Fatalf("mapping reads %q", got)
	}
}
