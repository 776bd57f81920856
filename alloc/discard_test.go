package alloc

import (
	"errors"
	"testing"

	"nvkv/nvmap"
)

// fullDevice is a device whose file system has no blocks left when full is set.
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

// TestReserveHasBlocks checks that the kept room has blocks when the file system is full, although
// there are also free slabs without blocks.
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
	if n := len(take(true)); n < minKept*perSlab {
		t.Errorf("%d slots for urgent callers, %d slabs of %d are reserved", n, minKept, perSlab)
	}
}

// holes is a device with ranges that have no blocks, on a file system that has none left when full
// is set.
type holes struct {
	nvmap.Device
	full    bool
	without map[nvmap.Off]bool // slabs without blocks, by offset
	failed  int
}

func (d *holes) Allocate(off nvmap.Off, n int64) error {
	if d.full && d.without[off] {
		d.failed++
		return nvmap.ErrFull
	}
	delete(d.without, off)
	return d.Device.Allocate(off, n)
}

// TestReserveAfterOpening checks the reserve after an opening, when it is not known which free
// slabs have blocks. On a file system that others have filled meanwhile, the slabs with blocks must
// be kept for urgent callers, wherever they lie.
func TestReserveAfterOpening(t *testing.T) {
	for name, kept := range map[string]func(i, n int) bool{
		"at the front":        func(i, _ int) bool { return i < 40 },
		"at the end":          func(i, n int) bool { return i >= n-40 },
		"every sixth":         func(i, _ int) bool { return i%6 == 0 },
		"no more than needed": func(i, _ int) bool { return i == 20 || i == 21 || i == 100 || i == 200 },
		"all":                 func(int, int) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			dev := &holes{Device: nvmap.NewMem(4 << 20), without: map[nvmap.Off]bool{}}
			m := mapOf(t, dev)
			if err := Format(m, Options{SlabBytes: 16 << 10, GroupSlabs: 16}); err != nil {
				t.Fatal(err)
			}
			r := mustOpenReady(t, m)
			class, _ := r.ClassFor(r.LargestSlot())
			for takeAll(t, r, class, false) > 0 { // grows the device to its maximum
			}
			r = mustOpenReady(t, m) // no map was written, so all slabs are free
			had := 0
			for i := range r.slabs {
				if r.geo.isMeta(i) {
					continue
				}
				if kept(i, len(r.slabs)) {
					had++
				} else {
					dev.without[r.geo.slabOff(i)] = true
				}
			}
			dev.full = true
			perSlab := r.geo.slabBytes / r.table.slotBytes(KindRecord, class)
			for range 3 {
				if e, err := r.AllocRuns(int64(r.geo.slabBytes), 1); err == nil {
					had -= len(e)
				} else if !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			anybody := takeAll(t, r, class, false) / perSlab
			if want := had - minKept; anybody < want {
				t.Errorf("%d slabs for anybody, %d have blocks", anybody, had)
			}
			if n := takeAll(t, r, class, true) / perSlab; n < minKept {
				t.Errorf("%d slabs for urgent callers, %d are reserved; %d had blocks", n, minKept, had)
			}
			if r.Check(func(o Off, what string) { t.Error(o, what) }) > 0 {
				t.Error("the books are wrong")
			}
			if most := 4 * len(r.slabs); dev.failed > most {
				t.Errorf("blocks were asked for %d times in vain", dev.failed)
			}
		})
	}
}

func mustOpenReady(t *testing.T, m *nvmap.Map) *Region {
	t.Helper()
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.Ready()
	return r
}

// takeAll takes slots until the region is full.
func takeAll(t *testing.T, r *Region, class ClassID, urgent bool) (n int) {
	t.Helper()
	for tries := 0; ; {
		switch _, err := r.AllocRecord(class, urgent); {
		case err == nil:
			n++
		case !errors.Is(err, ErrFull):
			t.Fatal(err)
		case tries > 10: // each call searches a little further for blocks
			return n
		default:
			tries++
		}
	}
}

// TestGrowthIsBounded checks that a large store does not grow by a whole twenty-fifth in one step,
// because the caller waits meanwhile.
func TestGrowthIsBounded(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(1<<30))
	if err := Format(m, Options{}); err != nil {
		t.Fatal(err)
	}
	r := mustOpenReady(t, m)
	class, _ := r.ClassFor(r.LargestSlot())
	most := growBytesMost/r.geo.slabBytes + r.geo.groupSlabs // a group's metadata, or the end of an extent
	for grown := 0; grown < 2; {
		before := r.SlabCount()
		if _, err := r.AllocRecord(class, false); err != nil {
			t.Fatal(err)
		}
		by := r.SlabCount() - before
		if by > most {
			t.Fatalf("%d slabs more at once, %d before", by, before)
		}
		if by > 0 && before/25 > 2*most {
			grown++
		}
	}
}
