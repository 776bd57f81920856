package nvmap_test

import (
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"

	"nvkv/nvmap"
)

// zipfian returns page numbers below n with exponent 0.99, scattered.
func zipfian(n int, seed uint64) func() nvmap.PageID {
	sums := make([]float64, n)
	sum := 0.0
	for i := range sums {
		sum += 1 / math.Pow(float64(i+1), 0.99)
		sums[i] = sum
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	where := rng.Perm(n)
	return func() nvmap.PageID {
		return nvmap.PageID(where[min(n-1, sort.SearchFloat64s(sums, rng.Float64()*sum))])
	}
}

// TestZipfianHits: with an eighth of the pages in DRAM, how many of the reads
// are served from there? At this size the best that a fixed choice of pages
// could do is printed too. NVMAP_ZIPF_PAGES sets the size; the larger, the more
// of the reads go to an eighth.
func TestZipfianHits(t *testing.T) {
	pages := 65_536
	if v := os.Getenv("NVMAP_ZIPF_PAGES"); v != "" {
		n, err := strconv.Atoi(v)
		must(t, err)
		pages = n
	}
	if raceEnabled {
		t.Skip("256 MiB of frames and device on the heap")
	}
	for _, name := range nvmap.Policies() {
		m, err := nvmap.NewMap(nvmap.NewMem(int64(pages)*nvmap.PageBytes), &nvmap.MapOptions{
			CacheBytes: int64(pages) / 8 * nvmap.PageBytes, Policy: policyNamed(t, name), Mode: nvmap.Cached,
		})
		must(t, err)
		must(t, m.Grow(int64(pages)*nvmap.PageBytes))
		next := zipfian(pages, 1)
		var b [8]byte
		var before nvmap.MapStats
		warm, reads := 4*pages, 4*pages
		for i := range warm + reads {
			if i == warm {
				before = m.Stats()
			}
			must(t, m.Load(next().Off(), b[:]))
		}
		s := m.Stats()
		hits := float64(s.Hits-before.Hits) / float64(reads)
		t.Logf("%-16s %.1f %% of zipfian(0.99) reads from 1/8 of the pages in DRAM", s.CachePolicy, 100*hits)
		if s.CacheUsed > s.CacheBytes {
			t.Errorf("%s: %d bytes over the bound", name, s.CacheUsed-s.CacheBytes)
		}
		if hits < zipfLeast {
			t.Errorf("%s: %.1f %% of reads from DRAM", name, 100*hits)
		}
		must(t, m.Close())
	}
	top, all := 0.0, 0.0
	for i := range pages {
		p := 1 / math.Pow(float64(i+1), 0.99)
		if all += p; i < pages/8 {
			top += p
		}
	}
	t.Logf("%-16s %.1f %%", "the best choice", 100*top/all)
}

// zipfLeast is below what each policy reaches, so that the test is steady.
const zipfLeast = 0.70
