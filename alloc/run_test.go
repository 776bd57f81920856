package alloc

import (
	"errors"
	"math/rand/v2"
	"testing"

	"nvkv/nvmap"
)

// TestSlabSet compares a set of several levels with a Go map.
func TestSlabSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var s slabSet
	model := map[int]bool{}
	if s.next(0) != none {
		t.Fatal("an empty set has a member")
	}
	for _, within := range []int{50, 300, 5000, 300_000} {
		for range 400 {
			i := rng.IntN(within)
			if rng.IntN(3) > 0 {
				for n := range rng.IntN(70) + 1 {
					s.add(i + n)
					model[i+n] = true
				}
			} else if s.has(i) {
				s.remove(i)
				delete(model, i)
			}
			at := rng.IntN(within)
			next, run := at, 0
			for next < within+70 && !model[next] {
				next++
			}
			for model[next+run] {
				run++
			}
			got := s.next(at)
			if next == within+70 {
				next = none
			}
			if got != next {
				t.Fatalf("next(%d) = %d, not %d", at, got, next)
			}
			if most := rng.IntN(200); got != none && s.stretch(got, most) != min(run, most) {
				t.Fatalf("stretch(%d, %d) = %d, not %d", got, most, s.stretch(got, most), min(run, most))
			}
		}
	}
}

// fragmented returns a region with the given number of slabs. The slabs for which free returns
// true, given their number among n, are free, and each other slab holds a run. Its device cannot
// grow.
func fragmented(t *testing.T, slabs int, free func(n, i int) bool) *Region {
	t.Helper()
	const slabBytes = 4096
	m := mapOf(t, nvmap.NewMem(int64(slabs)*slabBytes))
	if err := Format(m, Options{SlabBytes: slabBytes, GroupSlabs: 256}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.SetInterval(1)
	r.Ready()
	var all []Extent
	for {
		e, err := r.AllocRuns(slabBytes, 1)
		if errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, e...)
	}
	for i, e := range all {
		if free(len(all), i) {
			r.FreeRun(e)
		}
	}
	return r
}

// TestRunsOfAnyPieces checks that AllocRuns hands out free space to the last page, however
// fragmented it is, and that a refusal changes nothing.
func TestRunsOfAnyPieces(t *testing.T) {
	r := fragmented(t, 2048, func(_, i int) bool { return i%2 == 0 })
	before, size := r.Stats(), r.m.Size()
	room := int64(r.freeSlabs-r.reserve) * 4096
	if _, err := r.AllocRuns(room+1, AnyExtents); !errors.Is(err, ErrFull) {
		t.Errorf("a byte more than there is room for: %v", err)
	}
	if after := r.Stats(); after != before || r.m.Size() != size {
		t.Errorf("a refusal left %+v of %+v", after, before)
	}
	runs, err := r.AllocRuns(room, AnyExtents)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) < 900 {
		t.Errorf("%d extents, of a region where every second slab is free", len(runs))
	}
	for _, e := range runs {
		r.FreeRun(e)
	}
	if after := r.Stats(); after.UsedBytes != before.UsedBytes {
		t.Errorf("%d bytes used, not %d", after.UsedBytes, before.UsedBytes)
	}
}

// TestRunsOfHoles checks that free pages between used ones are handed out if no slab is free and
// most such pages lie in victims.
func TestRunsOfHoles(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(2<<20))
	if err := Format(m, Options{SlabBytes: 16 << 10, GroupSlabs: 16}); err != nil {
		t.Fatal(err)
	}
	r := must(Open(m))
	r.SetInterval(1)
	r.Ready()
	var pages []Extent
	for {
		e, err := r.AllocRuns(nvmap.PageBytes, 1)
		if errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, e...)
	}
	free := int64(0)
	for i, e := range pages {
		if i%4 < 2 {
			r.FreeRun(e)
			free += e.Bytes
		}
	}
	r.TakeSparseOf(KindRun)
	if len(r.victims) == 0 {
		t.Fatal("nothing is being emptied")
	}
	runs, err := r.AllocRuns(free, AnyExtents)
	if err != nil {
		t.Fatal(err)
	}
	got := int64(0)
	for _, e := range runs {
		got += e.Bytes
	}
	if got != free {
		t.Errorf("%d bytes in holes, not %d", got, free)
	}
}

// looked returns the number of words that r has read in its sets of free slabs.
func looked(r *Region) uint64 { return r.free[0].looks + r.free[1].looks }

// TestLooksAreBounded checks that the words read by an allocation do not depend on the number of
// slabs, wherever the free ones lie.
func TestLooksAreBounded(t *testing.T) {
	for name, free := range map[string]func(n, i int) bool{
		"at the end":   func(n, i int) bool { return i >= n-40 },
		"at the front": func(n, i int) bool { return i < 40 },
		"one by one":   func(n, i int) bool { return i%(n/40) == 0 },
	} {
		most := map[int]uint64{}
		for _, slabs := range []int{1 << 9, 1 << 13} {
			r := fragmented(t, slabs, free)
			for range 12 {
				before := looked(r)
				if _, err := r.AllocRuns(2*4096, AnyExtents); err != nil {
					t.Fatalf("%s, %d slabs: %v", name, slabs, err)
				}
				most[slabs] = max(most[slabs], looked(r)-before)
			}
		}
		if most[1<<13] > most[1<<9]+64 {
			t.Errorf("free slabs %s: up to %d looks of 512 slabs, %d of 8192", name, most[1<<9], most[1<<13])
		}
	}
}

// TestRunsTakeAllButWhatIsKept checks that free pages in page slabs count towards the kept room, so
// that they take no free slab from runs.
func TestRunsTakeAllButWhatIsKept(t *testing.T) {
	for _, pages := range []int64{1, 5, 16, 100} {
		const slabs = 64
		m := mapOf(t, nvmap.NewMem(slabs*DefaultSlabBytes))
		if err := Format(m, Options{}); err != nil {
			t.Fatal(err)
		}
		r, err := Open(m)
		if err != nil {
			t.Fatal(err)
		}
		r.SetInterval(1)
		r.Ready()
		r.SetNeed(Need{Pages: 15, Blocks: 1})
		for _, alloc := range []func() error{
			func() error { _, err := r.AllocPage(true); return err },
			func() error { _, err := r.AllocBlock(true); return err },
		} {
			if err := alloc(); err != nil {
				t.Fatal(err)
			}
		}
		for err == nil {
			_, err = r.AllocRuns(pages*nvmap.PageBytes, AnyExtents)
		}
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		for err = nil; err == nil; {
			_, err = r.AllocRuns(nvmap.PageBytes, 1)
		}
		if r.freeSlabs != r.kept.slabs || r.Unreserved() != 0 || r.Waste(KindRun) != 0 {
			t.Errorf("runs of %d pages: %d slabs are free, of which %d are kept; %d bytes in slabs of runs: %v",
				pages, r.freeSlabs, r.kept.slabs, r.Waste(KindRun), err)
		}
	}
}
