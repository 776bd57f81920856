package alloc

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// A device that is not a store and holds something at either end is never
// written to.
func TestBlank(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		at   nvmap.Off
		want string // in the error; "" for none
	}{
		{0, ""}, {4086, ""}, // not zero where a store begins: opening says so
		{64 << 10, "0x10000"}, {blankBytes - 1, "0xfffff"},
		{size - 512, "0x7ffe00"}, {size - 1, "0x7fffff"}, {size - blankBytes, "0x700000"},
	} {
		dev := nvmap.NewSim(nvmap.NewMem(size))
		if err := dev.Grow(size); err != nil {
			t.Fatal(err)
		}
		if err := dev.Corrupt(c.at, []byte{1}); err != nil {
			t.Fatal(err)
		}
		m, err := nvmap.NewMap(dev, nil)
		if err != nil {
			t.Fatal(err)
		}
		absent, err := Absent(m)
		if !absent && err == nil {
			_, err = Open(m)
		}
		if absent && err == nil || !errors.Is(err, ErrNotStore) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("data at %#x: absent %v, %v", uint64(c.at), absent, err)
		}
		if dev.Writes() != 0 {
			t.Errorf("data at %#x: written to", uint64(c.at))
		}
		m.Close()
	}
}

// What a former store left between the ends is no obstacle, and not taken for
// anything.
func TestBlankInTheMiddle(t *testing.T) {
	const size = 16 << 20
	dev := nvmap.NewMem(size)
	if err := dev.Grow(size); err != nil {
		t.Fatal(err)
	}
	if err := dev.Write(blankBytes, bytes.Repeat([]byte{0xa5}, size-2*blankBytes)); err != nil {
		t.Fatal(err)
	}
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if absent, err := Absent(m); !absent || err != nil {
		t.Fatalf("absent %v, %v", absent, err)
	}
	if err := Format(m, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(m); err != nil {
		t.Fatal(err)
	}
}
