package alloc

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// TestBlank checks that a device that is not a store and holds data at either end is never written
// to.
func TestBlank(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		at   nvmap.Off
		want string // part of the error; "" for none
	}{
		{0, ""}, {4086, ""}, // not zero where a store begins: opening reports it
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

// TestBlankInTheMiddle checks that bytes of an earlier store between the ends do not prevent a new
// store, and are not taken for its contents.
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
