//go:build nvkvdebug

package alloc

import (
	"fmt"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// panicOf returns what fn panics with, or "".
func panicOf(fn func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	fn()
	return ""
}

// TestAuditsSeeFaults plants faults in the books of a region. The next change must notice each,
// or the next freeze.
func TestAuditsSeeFaults(t *testing.T) {
	for want, plant := range map[string]func(r *Region, s *slab){
		"used slots, counted":     func(_ *Region, s *slab) { s.usedN++ },
		"live slots, counted":     func(_ *Region, s *slab) { s.liveN++ },
		"are live but free":       func(_ *Region, s *slab) { set(s.live, s.slots-1); s.liveN++ },
		"listed":                  func(_ *Region, s *slab) { s.bucket = 0 },
		"by kind":                 func(r *Region, _ *slab) { r.space[KindRecord].used += 64 },
		"slabs are free":          func(r *Region, _ *slab) { r.freeSlabs++ },
		"free slab that is in no": func(r *Region, _ *slab) { r.free[0].remove(r.free[0].next(0)) },
	} {
		m := mapOf(t, nvmap.NewMem(4<<20))
		if err := Format(m, Options{}); err != nil {
			t.Fatal(err)
		}
		r := mustOpenReady(t, m)
		class, _ := r.ClassFor(100)
		a, err := r.AllocRecord(class, false)
		b, errB := r.AllocRecord(class, false)
		if err != nil || errB != nil {
			t.Fatal(err, errB)
		}
		use := func() {
			if err := r.SetLive(a); err != nil {
				t.Error(err)
			}
			if err := r.ClearLive(a); err != nil {
				t.Error(err)
			}
			r.FreezeMaps()
		}
		if text := panicOf(use); text != "" {
			t.Fatalf("without a fault: %s", text)
		}
		plant(r, &r.slabs[r.SlabOf(b)])
		if text := panicOf(use); !strings.Contains(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
	}
}
