package nvmap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestThousandDevices checks that a thousand devices and maps with default bounds can be open at
// once, each able to grow to 16 GiB. The first has 1 TiB, and so has one that is opened after they
// are closed. Explicit bounds are also reduced before the runtime runs out of addresses.
func TestThousandDevices(t *testing.T) {
	if onHeap() || maxBytesDefault > int64(^uint(0)>>1) {
		t.Skip("no address space is reserved here")
	}
	used := spaceUsed.Load()
	var maps []*Map
	closeAll := func() {
		var errs []error
		for _, m := range maps {
			errs = append(errs, m.Close())
		}
		maps = nil
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	defer closeAll()
	open := func(maxBytes int64) Info {
		t.Helper()
		d, err := newMem(maxBytes)
		if err != nil {
			t.Fatalf("device %d: %v", len(maps), err)
		}
		m, err := NewMap(d, nil)
		if err != nil {
			t.Fatalf("map %d: %v", len(maps), err)
		}
		maps = append(maps, m)
		if got := d.Info().MaxBytes; m.max < got {
			t.Fatalf("device %d can grow to %d bytes, its map to %d", len(maps), got, m.max)
		}
		return d.Info()
	}
	if first := open(0); first.MaxBytes != maxBytesDefault || first.Scant {
		t.Errorf("the first: %+v", first)
	}
	for len(maps) < 1000 {
		if info := open(0); info.MaxBytes < grantLeast || info.Scant != (info.MaxBytes < maxBytesDefault) {
			t.Fatalf("device %d: %+v", len(maps), info)
		}
	}
	if got := spaceUsed.Load(); got > spaceBudget {
		t.Errorf("%d bytes are reserved, of %d", got, int64(spaceBudget))
	}
	if info := open(2 * maxBytesDefault); info.Scant {
		t.Logf("asked for 2 TiB, got %d bytes", info.MaxBytes)
	}
	closeAll()
	if got := spaceUsed.Load(); got > used+spaceWide/2 {
		t.Errorf("%d bytes are reserved when all is closed, %d before", got, used)
	}
	if again := open(0); again.MaxBytes != maxBytesDefault {
		t.Errorf("after all were closed: %+v", again)
	}
}

// TestScantOddBound checks that a bound that is not in whole units is rounded down, and that this
// does not count as scant.
func TestScantOddBound(t *testing.T) {
	for _, bound := range []int64{1<<20 + 1, 1<<20 + 4095, 5 << 20, 100} {
		mem, err := newMem(bound)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := OpenDevice(path, OpenOptions{MaxBytes: bound, Kind: "file"})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []Device{mem, file} {
			if info := d.Info(); info.Scant || info.MaxBytes > bound && bound > PageBytes {
				t.Errorf("a bound of %d bytes: %+v", bound, info)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
