//go:build amd64 || arm64

package nvmap_test

import (
	"math/rand/v2"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// hotMisses uses a hot set of pages beside a scan, with memory for an eighth of the device, and
// returns how many of 1000 uses of hot pages found their page missing. With each page of the scan,
// as many hot pages are used.
func hotMisses(t *testing.T, o nvmap.PagedOptions) (misses float64, stats nvmap.PagedStats) {
	t.Helper()
	const pages, hot = 2048, 128
	path := pagedFile(t, effort.Dir(t), pages)
	o.CacheBytes, o.MaxBytes, o.Logger = pages/8*nvmap.PageBytes, 64<<20, quietLogger()
	p := openPaged(t, path, &o)
	if err := p.Advise(0, p.Size(), nvmap.AdviseRandom); err != nil { // count pages that are asked for
		t.Fatal(err)
	}
	b := p.Bytes()
	r := rand.New(rand.NewPCG(3, 4))
	sum := byte(0)
	var before nvmap.PagedStats
	const rounds = 4
	for round := range rounds {
		if round == 1 {
			before = p.Stats()
		}
		for i := hot; i < pages; i++ {
			sum += b[i*nvmap.PageBytes]
			sum += b[r.IntN(hot)*nvmap.PageBytes]
		}
	}
	sink = sum
	stats = p.Stats()
	uses := float64((rounds - 1) * (pages - hot))
	return (float64(stats.Missing-before.Missing) - uses) / uses * 1000, stats
}

var sink byte

// TestPagedPoliciesKeepHotPages checks that the policies learn of uses that no call tells them: a
// scan does not flush pages that are used again and again. NoSampling shows what they would know
// otherwise.
func TestPagedPoliciesKeepHotPages(t *testing.T) {
	needPaged(t)
	blind, _ := hotMisses(t, nvmap.PagedOptions{Policy: "clock", NoSampling: true})
	t.Logf("clock without rounds: %.0f of 1000 uses of hot pages miss", blind)
	for policy, most := range map[string]float64{"2q": blind / 3, "s3fifo": blind / 3, "clock": blind} {
		misses, stats := hotMisses(t, nvmap.PagedOptions{Policy: policy})
		t.Logf("%s: %.0f of 1000 uses of hot pages miss; %d minor faults for %d missing pages", policy, misses, stats.Minor, stats.Missing)
		if misses > most {
			t.Errorf("%s: %.0f of 1000 uses of hot pages miss, more than %.0f", policy, misses, most)
		}
	}
	if blind < 200 {
		t.Errorf("without rounds only %.0f of 1000 miss: the test shows nothing", blind)
	}
}

// writesOf stores to some pages beside a scan that loads, and returns the pages written for 1000
// stores.
func writesOf(t *testing.T, policy string) float64 {
	t.Helper()
	const pages, stored = 2048, 224
	path := pagedFile(t, effort.Dir(t), pages)
	p := openPaged(t, path, &nvmap.PagedOptions{
		CacheBytes: pages / 8 * nvmap.PageBytes, MaxBytes: 64 << 20, Policy: policy, Logger: quietLogger(),
	})
	if err := p.Advise(0, p.Size(), nvmap.AdviseRandom); err != nil {
		t.Fatal(err)
	}
	b := p.Bytes()
	r := rand.New(rand.NewPCG(5, 6))
	sum, stores := byte(0), 0
	for range 3 {
		for i := stored; i < pages; i++ {
			sum += b[i*nvmap.PageBytes]
			b[r.IntN(stored)*nvmap.PageBytes+8]++
			stores++
		}
	}
	sink = sum
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	return float64(p.Stats().WriteBacks) / float64(stores) * 1000
}

// TestPagedPolicySparesWrites checks that the admission of spitfire, which gives pages that are only
// read little room, leaves stored pages in DRAM longer: less is written.
func TestPagedPolicySparesWrites(t *testing.T) {
	needPaged(t)
	clock, spitfire := writesOf(t, "clock"), writesOf(t, "spitfire")
	t.Logf("pages written for 1000 stores: clock %.0f, spitfire %.0f", clock, spitfire)
	if spitfire > 0.8*clock {
		t.Errorf("spitfire writes %.0f pages for 1000 stores, clock %.0f", spitfire, clock)
	}
}
