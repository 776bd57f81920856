package nvmap_test

import (
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// zipfian returns a source of page numbers below n with exponent 0.99, scattered.
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

// bestChoice returns the share of zipfian reads that go to the most frequent pages, as many as
// there are frames.
func bestChoice(pages, frames int) float64 {
	top, all := 0.0, 0.0
	for i := range pages {
		p := 1 / math.Pow(float64(i+1), 0.99)
		if all += p; i < frames {
			top += p
		}
	}
	return top / all
}

// cacheModel is a map without bytes. It records which pages have frames and which were touched, and
// asks a policy as Map does.
type cacheModel struct {
	policy        nvmap.Policy
	frame, touch  []bool
	frames, limit int
}

func newCacheModel(policy nvmap.Policy, pages int) *cacheModel {
	return &cacheModel{policy: policy, frame: make([]bool, pages), touch: make([]bool, pages), limit: pages / 8}
}

// read reports whether p was in a frame. If not, it gives p a frame if the policy admits it.
func (c *cacheModel) read(p nvmap.PageID) bool {
	if c.frame[p] {
		c.touch[p] = true
		return true
	}
	if !c.policy.Admit(p, false) {
		return false
	}
	if c.frames == c.limit {
		for _, v := range c.policy.Victims(nil, 64, c.untouch) {
			c.frame[v] = false
			c.frames--
		}
	}
	c.frame[p] = true
	c.frames++
	c.policy.Insert(p)
	return false
}

func (c *cacheModel) untouch(p nvmap.PageID) bool {
	was := c.touch[p]
	c.touch[p] = false
	return was
}

// hitsOf returns the share of hits in the second half of the reads.
func hitsOf(reads []nvmap.PageID, read func(nvmap.PageID) bool) float64 {
	hits, warm := 0, len(reads)/2
	for i, p := range reads {
		if read(p) && i >= warm {
			hits++
		}
	}
	return float64(hits) / float64(len(reads)-warm)
}

// besideScan returns c.read with a scan of all pages mixed in, which reads one page for every four
// other reads.
func besideScan(c *cacheModel) func(nvmap.PageID) bool {
	at := 0
	return func(p nvmap.PageID) bool {
		if at++; at%4 == 0 {
			c.read(nvmap.PageID(at / 4 % len(c.frame)))
		}
		return c.read(p)
	}
}

// takeReads returns the next n numbers.
func takeReads(next func() nvmap.PageID, n int) []nvmap.PageID {
	reads := make([]nvmap.PageID, n)
	for i := range reads {
		reads[i] = next()
	}
	return reads
}

// leastHits are the least shares of zipfian reads that each policy must serve from an eighth of the
// pages, by number of pages. They are a little below the measured shares.
var leastHits = map[int]map[string]float64{
	8_192:     {"clock": 0.69, "2q": 0.725, "s3fifo": 0.74, "spitfire": 0.715},  // 32 MiB
	65_536:    {"clock": 0.745, "2q": 0.775, "s3fifo": 0.79, "spitfire": 0.765}, // 256 MiB
	1_048_576: {"clock": 0.79, "2q": 0.815, "s3fifo": 0.825, "spitfire": 0.80},  // 4 GiB
}

// TestPolicyHits checks that with an eighth of 4 GiB in DRAM the default policy serves four fifths
// of zipfian reads from there, also during a scan of everything (in the full form; the short and
// the plain form have 256 MiB only). It prints the hits of each policy at two sizes beside the best
// that a fixed choice of pages could reach. It uses page numbers without pages.
func TestPolicyHits(t *testing.T) {
	for pages := range leastHits {
		if effort.Now() < effort.Full && pages > 65_536 {
			continue
		}
		reads := takeReads(zipfian(pages, 1), 8*pages)
		t.Logf("%d pages, the best fixed choice %.1f %%", pages, 100*bestChoice(pages, pages/8))
		for _, name := range nvmap.Policies() {
			if effort.Now() == effort.Short && name != nvmap.DefaultPolicy {
				continue
			}
			alone := hitsOf(reads, newCacheModel(policyNamed(t, name), pages).read)
			beside := hitsOf(reads, besideScan(newCacheModel(policyNamed(t, name), pages)))
			t.Logf("%-10s %.1f %% of zipfian(0.99) reads from 1/8 of the pages, %.1f %% beside a scan that reads a page for every four of them", name, 100*alone, 100*beside)
			if least := leastHits[pages][name]; alone < least {
				t.Errorf("%s: %.1f %%, want %.1f", name, 100*alone, 100*least)
			}
			if name == nvmap.DefaultPolicy && pages == 1_048_576 && min(alone, beside) < 0.80 {
				t.Errorf("the default policy: %.1f %%, %.1f beside a scan, want 80", 100*alone, 100*beside)
			}
		}
	}
}

// TestZipfianHits does the same on maps with bytes. It also counts how many stores make the medium
// write a page, which wears it. NVMAP_ZIPF_PAGES sets the number of pages.
func TestZipfianHits(t *testing.T) {
	pages := effort.Pick(8_192, 8_192, 65_536, 65_536)
	if v := os.Getenv("NVMAP_ZIPF_PAGES"); v != "" {
		n, err := strconv.Atoi(v)
		must(t, err)
		pages = n
	}
	if raceEnabled {
		t.Skip("256 MiB of frames and device on the heap")
	}
	reads := takeReads(zipfian(pages, 1), 8*pages)
	for _, name := range nvmap.Policies() {
		m, err := nvmap.NewMap(nvmap.NewMem(int64(pages)*nvmap.PageBytes), &nvmap.MapOptions{
			CacheBytes: int64(pages) / 8 * nvmap.PageBytes, Policy: policyNamed(t, name), Mode: nvmap.Cached,
		})
		must(t, err)
		must(t, m.Grow(int64(pages)*nvmap.PageBytes))
		var b [8]byte
		var warm nvmap.MapStats
		for i, p := range reads {
			if i == len(reads)/2 {
				warm = m.Stats()
			}
			must(t, m.Load(p.Off(), b[:]))
		}
		hits := float64(m.Stats().Hits-warm.Hits) / float64(len(reads)-len(reads)/2)
		stores := reads[:2*pages]
		before := m.Stats()
		for _, p := range stores {
			must(t, m.Store(p.Off(), b[:]))
		}
		s := m.Stats()
		written := float64(s.WriteBacks-before.WriteBacks+s.Writes-before.Writes) / float64(len(stores))
		t.Logf("%-16s %.1f %% of zipfian(0.99) reads from 1/8 of the pages in DRAM; %.1f writes of the device for 100 stores", s.CachePolicy, 100*hits, 100*written)
		if s.CacheUsed > s.CacheBytes {
			t.Errorf("%s: %d bytes over the bound", name, s.CacheUsed-s.CacheBytes)
		}
		if least := leastHits[pages][name]; hits < least {
			t.Errorf("%s: %.1f %% of reads from DRAM, want %.1f", name, 100*hits, 100*least)
		}
		must(t, m.Close())
	}
}
