package nvmaptest

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"nvkv/nvmap"
)

// TestPolicy checks that a cache policy keeps the promises of nvmap.Policy, by itself and behind a
// map. It does not judge the quality of the choices.
func TestPolicy(t *testing.T, make func() nvmap.Policy) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, func() nvmap.Policy)
	}{
		{"Name", testPolicyName},
		{"Empty", testPolicyEmpty},
		{"AllComeOut", testPolicyAllComeOut},
		{"Remove", testPolicyRemove},
		{"Twice", testPolicyTwice},
		{"AlwaysTouched", testPolicyAlwaysTouched},
		{"Random", testPolicyRandom},
		{"AdmitBeside", testPolicyAdmit},
		{"Map", testPolicyMap},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, make) })
	}
}

func never(nvmap.PageID) bool  { return false }
func always(nvmap.PageID) bool { return true }

func testPolicyName(t *testing.T, make func() nvmap.Policy) {
	if make().Name() == "" {
		t.Error("a policy has a name")
	}
}

func testPolicyEmpty(t *testing.T, make func() nvmap.Policy) {
	p := make()
	if got := p.Victims(nil, 10, never); len(got) != 0 {
		t.Errorf("victims %v of nothing", got)
	}
	p.Remove(7) // which is absent
	p.Insert(7)
	if got := p.Victims([]nvmap.PageID{3}, 10, never); !slices.Equal(got, []nvmap.PageID{3, 7}) {
		t.Errorf("victims %v; 7 belongs behind what was there, 3", got)
	}
}

// testPolicyAllComeOut checks that every page is a victim once, and then forgotten.
func testPolicyAllComeOut(t *testing.T, make func() nvmap.Policy) {
	p := make()
	for id := range nvmap.PageID(1000) {
		p.Insert(id)
	}
	seen := map[nvmap.PageID]bool{}
	for i := range 10 {
		got := p.Victims(nil, 100, func(id nvmap.PageID) bool { return id%3 == 0 && !seen[id] && i == 0 })
		if len(got) != 100 {
			t.Fatalf("%d victims where 100 were asked for and more were there", len(got))
		}
		for _, id := range got {
			if seen[id] {
				t.Fatalf("page %d was a victim before and not inserted again", id)
			}
			seen[id] = true
		}
	}
	if got := p.Victims(nil, 1, never); len(got) != 0 {
		t.Errorf("victim %v when all have gone", got)
	}
}

func testPolicyRemove(t *testing.T, make func() nvmap.Policy) {
	p := make()
	for id := range nvmap.PageID(100) {
		p.Insert(id)
	}
	for id := nvmap.PageID(0); id < 100; id += 2 {
		p.Remove(id)
	}
	got := p.Victims(nil, 1000, never)
	for _, id := range got {
		if id%2 == 0 {
			t.Errorf("page %d was removed, and is a victim", id)
		}
	}
	if len(got) != 50 {
		t.Errorf("%d victims of 50", len(got))
	}
}

func testPolicyTwice(t *testing.T, make func() nvmap.Policy) {
	p := make()
	for range 3 {
		p.Insert(5)
	}
	if got := p.Victims(nil, 10, never); len(got) != 1 {
		t.Errorf("a page that was inserted three times is a victim %d times", len(got))
	}
}

// testPolicyAlwaysTouched checks that Victims ends even if readers are faster than its search.
func testPolicyAlwaysTouched(t *testing.T, make func() nvmap.Policy) {
	p := make()
	for id := range nvmap.PageID(100) {
		p.Insert(id)
	}
	for range 5 {
		if got := p.Victims(nil, 10, always); len(got) != 10 {
			t.Fatalf("%d victims of 10 while all pages are being read", len(got))
		}
	}
}

// testPolicyRandom compares the pages of the policy with a set.
func testPolicyRandom(t *testing.T, make func() nvmap.Policy) {
	r := rand.New(rand.NewPCG(1, 2))
	p, in := make(), map[nvmap.PageID]bool{}
	for range 50_000 {
		id := nvmap.PageID(r.IntN(500))
		switch r.IntN(8) {
		case 0:
			p.Remove(id)
			delete(in, id)
		case 1:
			n := 1 + r.IntN(20)
			got := p.Victims(nil, n, func(nvmap.PageID) bool { return r.IntN(2) == 0 })
			if len(got) != min(n, len(in)) {
				t.Fatalf("%d victims, want %d of %d", len(got), n, len(in))
			}
			for _, id := range got {
				if !in[id] {
					t.Fatalf("victim %d has no frame", id)
				}
				delete(in, id)
			}
		default:
			p.Insert(id)
			in[id] = true
		}
	}
}

// testPolicyAdmit calls Admit at the same time as the other methods, for the race detector.
func testPolicyAdmit(t *testing.T, make func() nvmap.Policy) {
	p := make()
	touch := func(nvmap.PageID) {}
	if toucher, ok := p.(nvmap.Toucher); ok {
		touch = toucher.Touch
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for id := range nvmap.PageID(5000) {
				p.Admit(id, id%2 == 0)
				touch(id)
			}
		})
	}
	for id := range nvmap.PageID(5000) {
		p.Insert(id)
		if id%64 == 63 {
			p.Victims(nil, 32, never)
		}
	}
	readers.Wait()
}

// testPolicyMap puts the policy behind a map four times larger than its cache. Whatever it chooses,
// the bytes must be right and the bound must hold.
func testPolicyMap(t *testing.T, make func() nvmap.Policy) {
	const size, bound = 4 << 20, 1 << 20
	m, err := nvmap.NewMap(nvmap.NewMem(8<<20), &nvmap.MapOptions{CacheBytes: bound, Policy: make(), Mode: nvmap.Cached})
	must(t, err)
	defer m.Close()
	must(t, m.Grow(size))
	Bytes(t, m, 1, 20_000)
	s := m.Stats()
	if s.Evictions == 0 && s.Admissions*nvmap.PageBytes > bound {
		t.Errorf("nothing was evicted: %+v", s)
	}
}

// Bytes loads and stores at random on a map that is all zeros, and compares the bytes with a model.
// Sometimes it calls Sync. It fails the test if bytes differ or frames exceed the bound. It returns
// the contents of the map.
func Bytes(t *testing.T, m *nvmap.Map, seed uint64, operations int) []byte {
	t.Helper()
	model := make([]byte, m.Size())
	Continue(t, m, model, seed, operations)
	return model
}

// settledStats returns Stats. Stats reads one counter after the other, so while others use the map
// its values may be of different moments. settledStats then reads again.
func settledStats(m *nvmap.Map) (s nvmap.MapStats) {
	for range 1000 {
		if s = m.Stats(); s.FrameBytes <= s.CacheUsed || s.CacheUsed > s.CacheBytes {
			break
		}
		runtime.Gosched()
	}
	return s
}

// Continue is Bytes on a map whose contents are model. It changes model along with the map.
func Continue(t *testing.T, m *nvmap.Map, model []byte, seed uint64, operations int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	buf := make([]byte, 3*nvmap.PageBytes)
	for i := range operations {
		n := 1 + r.IntN(200)
		if r.IntN(50) == 0 {
			n = 1 + r.IntN(len(buf)-1)
		}
		off := r.IntN(len(model) - n)
		if r.IntN(2) == 0 {
			off = min(off, off%(len(model)/16)) // some parts are busier
		}
		if n > len(model)-off {
			n = len(model) - off
		}
		p := buf[:n]
		if r.IntN(3) == 0 {
			for j := range p {
				p[j] = byte(r.Uint32())
			}
			copy(model[off:], p)
			must(t, m.Store(nvmap.Off(off), p))
		} else {
			must(t, m.Load(nvmap.Off(off), p))
			if !bytes.Equal(p, model[off:off+n]) {
				t.Fatalf("seed %d, operation %d: Load of %d bytes at %#x differs from the model", seed, i, n, off)
			}
		}
		if r.IntN(2000) == 0 {
			must(t, m.Sync())
		}
		if s := settledStats(m); s.CacheBytes > 0 && (s.CacheUsed > s.CacheBytes || s.FrameBytes > s.CacheUsed) {
			t.Fatalf("seed %d, operation %d: frames of %d bytes, %d counted, over the bound of %d", seed, i, s.FrameBytes, s.CacheUsed, s.CacheBytes)
		}
	}
}
