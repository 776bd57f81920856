package alloc

import (
	"testing"

	"nvkv/nvmap"
)

// TestSparseSlabsAreFilledFirst: a slab of many records of which an eighth is free is filled again
// before a free slab is carved; of few large records, and where the medium is written in lines, a
// quarter must be free.
func TestSparseSlabsAreFilledFirst(t *testing.T) {
	for _, c := range []struct {
		dev            nvmap.Device
		bytes, eighths int
		again          bool
	}{
		{nvmap.NewMem(16 << 20), 128, 1, true},
		{nvmap.NewMem(16 << 20), 128, 0, false},
		{nvmap.NewMem(16 << 20), 8192, 1, false},
		{nvmap.NewMem(16 << 20), 8192, 2, true},
		{nvmap.NewSim(nvmap.NewMem(16 << 20)), 128, 1, false},
		{nvmap.NewSim(nvmap.NewMem(16 << 20)), 128, 2, true},
	} {
		m, err := nvmap.NewMap(c.dev, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := Format(m, Options{}); err != nil {
			t.Fatal(err)
		}
		r, err := Open(m)
		if err != nil {
			t.Fatal(err)
		}
		r.SetInterval(1)
		r.Ready()
		class, ok := r.ClassFor(c.bytes)
		if !ok {
			t.Fatalf("no class for %d bytes", c.bytes)
		}
		next := func() Off {
			o, err := r.AllocRecord(class, false)
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		slots := r.geo.slabBytes / r.table.slotBytes(KindRecord, class)
		var first []Off
		for range slots {
			first = append(first, next())
		}
		for range slots { // the slab is not the current one any more
			next()
		}
		free := slots * c.eighths / 8
		if c.eighths == 0 {
			free = slots/8 - 1
		}
		for _, o := range first[:free] {
			if err := r.Return(o); err != nil {
				t.Fatal(err)
			}
		}
		if again := r.SlabOf(next()) == r.SlabOf(first[0]); again != c.again {
			t.Errorf("%d of %d slots of %d bytes are free: filled again %v, want %v", free, slots, c.bytes, again, c.again)
		}
	}
}
