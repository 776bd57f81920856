package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"nvkv/compat"
)

func smallStall(engines ...string) StallPlan {
	p := DefaultStallPlan()
	p.Engines, p.Records, p.Time = engines, 500, 100*time.Millisecond
	return p
}

func TestStallOnEveryEngine(t *testing.T) {
	p := smallStall(append([]string{MapEngine, NoopEngine}, compat.Names()...)...)
	p.Threads = 2
	rep := mustRun(t, p.Tasks(), p.Validate())
	for !everyKind(rep) { // a busy machine needs longer
		p.Time *= 2
		rep = mustRun(t, p.Tasks(), p.Validate())
	}
	for _, engine := range p.Engines {
		r := find(t, rep, engine, StallWorkload)
		if r.Ops == 0 || r.OpsPerS <= 0 || r.P50 <= 0 || r.P999 < r.P99 || r.Max < r.P999 || r.Threads != 2 || r.Records != 500 {
			t.Errorf("%+v", r)
		}
		for _, kind := range []string{stallPut, stallDelete, stallRead, stallTimer} {
			if k := r.Kinds[kind]; k.Ops == 0 || k.Max < k.P999 {
				t.Errorf("%s, %s: %+v", engine, kind, k)
			}
		}
		if engine != NoopEngine && (r.Checked == 0 || r.Checked > 500) {
			t.Errorf("%s: %d records compared", engine, r.Checked)
		}
	}
	var text bytes.Buffer
	if err := rep.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p99.99", "longest", "timer", "nvkv meanwhile: ", "checkpoints", "pebble meanwhile: ", "500 records"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "operations/s") {
		t.Errorf("a table without a line:\n%s", text.String())
	}
}

// everyKind reports whether every run has operations of each kind.
func everyKind(rep *Report) bool {
	for _, r := range rep.Runs {
		for _, kind := range []string{stallPut, stallDelete, stallRead, stallTimer} {
			if r.Kinds[kind].Ops == 0 {
				return false
			}
		}
	}
	return true
}

// TestStallMeetsHousekeeping checks that the background work runs during the measurement: given
// time, nvkv takes checkpoints, moves records and gives blocks back.
func TestStallMeetsHousekeeping(t *testing.T) {
	p := smallStall(Home)
	p.Records, p.Threads = 30_000, 1
	for p.Time = time.Second; ; p.Time *= 2 { // the time limit of the test binary ends it
		r := find(t, mustRun(t, p.Tasks(), p.Validate()), Home, StallWorkload)
		idle := ""
		for _, c := range r.Housekeeping {
			if c.Value == 0 && c.Name != "discarded_bytes" {
				idle += " " + c.Name
			}
		}
		if idle == "" {
			t.Logf("%v: %s", p.Time, countersText(r.Housekeeping))
			return
		}
		t.Logf("in %v of writing none of%s: %v", p.Time, idle, r.Housekeeping)
	}
}

func TestStallFindsWhatIsWrong(t *testing.T) {
	good := appendStallValue(nil, 7, 3, 61)
	if version, err := checkStallValue(good, 7); version != 3 || err != nil {
		t.Fatal(version, err)
	}
	if _, err := checkStallValue(good, 8); err == nil {
		t.Error("another record's value passed")
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if version, err := checkStallValue(bad, 7); err == nil && version == 3 {
			t.Errorf("a bit of byte %d was wrong and nobody saw it", i)
		}
	}
	engine := &mapEngine{values: map[string][]byte{}}
	b := &stallBench{job: &Job{Stall: &StallJob{Records: 2}}, engine: engine, versions: []uint64{0, 3}}
	put := func(record, version uint64) {
		_ = engine.Put(stallKey(nil, record), appendStallValue(nil, record, version, 20))
	}
	for _, step := range []struct {
		what string
		do   func()
		bad  bool
	}{
		{"a record is gone", func() {}, true},
		{"an old version", func() { put(1, 2) }, true},
		{"what was written", func() { put(1, 3) }, false},
		{"a deleted record is there", func() { put(0, 1) }, true},
		{"what was written", func() { _ = engine.Delete(stallKey(nil, 0)) }, false},
		{"a key that nobody wrote", func() { put(5, 1) }, true},
	} {
		step.do()
		if err := b.verify(&Run{}); (err != nil) != step.bad {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}

func TestStallPlanRefuses(t *testing.T) {
	for name, change := range map[string]func(*StallPlan){
		"no engines": func(p *StallPlan) { p.Engines = nil }, "an engine": func(p *StallPlan) { p.Engines = []string{"odd"} },
		"no records": func(p *StallPlan) { p.Records = 0 }, "no time": func(p *StallPlan) { p.Time = 0 },
		"no threads": func(p *StallPlan) { p.Threads = 0 }, "small values": func(p *StallPlan) { p.ValueBytes = 20 },
	} {
		p := smallStall(Home)
		if change(&p); p.Validate() == nil {
			t.Errorf("%s: no error for %+v", name, p)
		}
	}
}
