package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"nvkv/nvmap"
)

// TestMapPermutation checks that the random order meets each page once, and is random.
func TestMapPermutation(t *testing.T) {
	for _, n := range []int64{1, 2, 4, 256, 8192} {
		seen, steps := make([]bool, n), int64(0)
		mix := permutation(n)
		for i := range n {
			p := mix(i)
			if p < 0 || p >= n || seen[p] {
				t.Fatalf("of %d pages, number %d is page %d: not one, or met before", n, i, p)
			}
			seen[p] = true
			if i > 0 && p == mix(i-1)+1 {
				steps++
			}
		}
		if n >= 256 && steps > n/16 {
			t.Errorf("of %d pages, %d follow the one before", n, steps)
		}
	}
}

func TestMapPlan(t *testing.T) {
	plan := MapPlan{Bytes: 64 << 20, Threads: []int{1, 2}, Modes: []string{"cached", "direct", "direct-protect"}, Policies: []string{"clock", "2q"}}
	if err := plan.Validate(); err != nil {
		t.Fatal(err)
	}
	if n := len(plan.Tasks()); n != 2*(2+2+1+2) {
		t.Errorf("%d tasks", n)
	}
	for what, spoil := range map[string]func(*MapPlan){
		"size":    func(p *MapPlan) { p.Bytes = 65 << 20 },
		"small":   func(p *MapPlan) { p.Bytes = 32 << 20 },
		"mode":    func(p *MapPlan) { p.Modes = []string{"sideways"} },
		"policy":  func(p *MapPlan) { p.Policies = []string{"oldest"} },
		"threads": func(p *MapPlan) { p.Threads = []int{0} },
		"delay":   func(p *MapPlan) { p.Delay = -1 },
	} {
		p := plan
		if spoil(&p); p.Validate() == nil {
			t.Errorf("%s: a plan that cannot be was accepted", what)
		}
	}
}

// forgetful is a contestant that loses the writes to one page.
type forgetful struct {
	b    []byte
	lost int64
}

func (f *forgetful) write(off int64, p []byte) error {
	if off != f.lost*nvmap.PageBytes {
		copy(f.b[off:], p)
	}
	return nil
}

func (f *forgetful) read(off int64, p []byte) error {
	copy(p, f.b[off:])
	return nil
}

func (f *forgetful) sync() error           { return nil }
func (f *forgetful) expect(bool)           {}
func (f *forgetful) stats() nvmap.MapStats { return nvmap.MapStats{} }
func (f *forgetful) close() error          { return nil }

// TestMapBenchChecks checks that a contestant that returns wrong bytes ends the benchmark, and that
// a correct one is measured, with all pages.
func TestMapBenchChecks(t *testing.T) {
	const pages = 1024
	for _, lost := range []int64{-1, 700} {
		f := &forgetful{make([]byte, pages*nvmap.PageBytes), lost}
		for p := range int64(pages) {
			binary.LittleEndian.PutUint64(f.b[p*nvmap.PageBytes:], mapWord(p, 0))
		}
		var runs []Run
		b := &mapBench{ctx: context.Background(), job: &Job{Engine: "forgetful", Threads: 3}, target: f, pages: pages,
			emit: func(e event) {
				if e.Run != nil {
					runs = append(runs, *e.Run)
				}
			}}
		var err error
		for _, test := range mapTests {
			err = errors.Join(err, b.run(test))
		}
		if (err == nil) != (lost < 0) || lost >= 0 && !strings.Contains(err.Error(), "page 700") {
			t.Errorf("page %d lost: %v", lost, err)
		}
		if lost >= 0 {
			continue
		}
		for _, r := range runs {
			want := uint64(pages)
			if r.Workload == mapZipf {
				want *= mapStores
			}
			if r.Ops != want || r.Capped || r.P50 <= 0 || r.OpsPerS <= 0 {
				t.Errorf("%s: %+v", r.Workload, r)
			}
		}
	}
}

// TestMapBenchCapped checks that reads also accept the earlier bytes if the time limit ended
// writing.
func TestMapBenchCapped(t *testing.T) {
	const pages = 4096
	f := &forgetful{make([]byte, pages*nvmap.PageBytes), -1}
	for p := range int64(pages) {
		binary.LittleEndian.PutUint64(f.b[p*nvmap.PageBytes:], mapWord(p, 0))
	}
	b := &mapBench{ctx: context.Background(), job: &Job{Engine: "late", PhaseLimit: time.Nanosecond}, target: f, pages: pages, emit: func(event) {}}
	if err := b.run(mapSeqWrite); err != nil {
		t.Fatal(err)
	}
	b.job.PhaseLimit = 0
	if err := b.run(mapSeqRead); err != nil {
		t.Error(err)
	}
	f.b[0] += 9
	if b.run(mapSeqRead) == nil {
		t.Error("a page that nobody wrote was accepted")
	}
}

func TestMapTable(t *testing.T) {
	r := &Report{}
	for _, engine := range []string{MmapContestant, "direct"} {
		for _, test := range mapTests {
			run := Run{Engine: engine, Workload: test, Phase: "map", Threads: 2, Records: 8192, ValueBytes: 4096, OpsPerS: 1000, Note: "noted"}
			if engine == "direct" {
				run.OpsPerS, run.CacheHits, run.CacheMisses = 2500, 3, 1
			}
			r.Runs = append(r.Runs, run)
		}
	}
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"device of 32 MiB", "1 MiB of it", "2.50", "75%", "mmap, direct: noted"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
	if len(r.Rows()) != 0 || len(r.Engines()) != 0 {
		t.Error("maps are no engines")
	}
}
