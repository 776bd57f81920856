package alloc

import (
	"errors"
	"testing"

	"nvkv/nvmap"
)

// fullDevice is a device whose file system has no blocks left once it is full.
type fullDevice struct {
	nvmap.Device
	full bool
}

func (d *fullDevice) Allocate(off nvmap.Off, n int64) error {
	if d.full {
		return nvmap.ErrFull
	}
	return d.Device.Allocate(off, n)
}

// TestReserveHasBlocks: what is kept for those who give space back is there when
// the file system is full, although free slabs without blocks are there too.
func TestReserveHasBlocks(t *testing.T) {
	dev := &fullDevice{Device: nvmap.NewMem(4 << 20)}
	m := mapOf(t, dev)
	if err := Format(m, Options{SlabBytes: 16 << 10, GroupSlabs: 16}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.Ready()
	class, _ := r.ClassFor(r.LargestSlot())
	take := func(urgent bool) (taken []Off) {
		for {
			o, err := r.AllocRecord(class, urgent)
			if errors.Is(err, ErrFull) {
				return taken
			}
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, o)
		}
	}
	for _, o := range take(false) {
		r.Free(o)
	}
	r.SetInterval(9)
	for from := 0; ; {
		first, n, next := r.TakeDiscardable(from, 9)
		if n == 0 {
			break
		}
		if err := r.Discard(first, n); err != nil {
			t.Fatal(err)
		}
		r.GiveDiscarded(first, n, true)
		from = next
	}
	if r.goneSlabs == 0 {
		t.Fatal("no slab was discarded")
	}
	dev.full = true
	if len(take(false)) == 0 {
		t.Error("no room for anybody")
	}
	perSlab := r.geo.slabBytes / r.table.slotBytes(KindRecord, class)
	if n := len(take(true)); n < reserveSlabs*perSlab {
		t.Errorf("%d slots for urgent callers, %d slabs of %d are reserved", n, reserveSlabs, perSlab)
	}
}
