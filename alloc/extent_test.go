package alloc

import (
	"errors"
	"testing"

	"nvkv/nvmap"
)

// TestGrowthForIndexSlabs checks that an error during growth for index slabs reaches the caller,
// who must not rely on the fences. A lack of room is no error here: the slab is then taken from
// elsewhere.
func TestGrowthForIndexSlabs(t *testing.T) {
	for _, c := range []struct {
		name   string
		inject func(*nvmap.Sim, error)
		fails  bool
	}{
		{"a write", func(s *nvmap.Sim, err error) { s.FailWrite(1, err) }, true},
		{"a fence", func(s *nvmap.Sim, err error) { s.FailFence(1, err) }, true},
		{"growing", func(s *nvmap.Sim, _ error) { s.SetLimit(s.Size()) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := nvmap.NewSim(nvmap.NewMem(64 << 20))
			m, err := nvmap.NewMap(sim, nil)
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
			for r.geo.sizeOf(len(r.slabs)) < extentsFrom {
				if _, err := r.AllocRecord(ClassID(len(r.table.size)-1), false); err != nil {
					t.Fatal(err)
				}
			}
			boom := errors.New("boom")
			c.inject(sim, boom)
			if _, err := r.AllocPage(false); errors.Is(err, boom) != c.fails || !c.fails && err != nil {
				t.Errorf("AllocPage: %v", err)
			}
		})
	}
}
