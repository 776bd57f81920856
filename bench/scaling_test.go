package bench

import (
	"bytes"
	"strings"
	"testing"
)

// A report with several numbers of threads has a table of what each thread adds, with the fewest as
// its unit, and one with a single number has none.
func TestScalingTable(t *testing.T) {
	run := func(engine, workload string, threads int, ops float64) Run {
		return Run{Engine: engine, Workload: workload, Phase: "run", Threads: threads, Records: 1000, ValueBytes: 100, OpsPerS: ops}
	}
	rep := &Report{Runs: []Run{
		run("nvkv", "a", 1, 1000), run("pebble", "a", 1, 500), run("nvkv", "a", 4, 2500), run("nvkv", "a", 2, 1500),
		run("pebble", "a", 2, 250), run("nvkv", "b", 1, 7000),
	}}
	all, threads := scalings(rep.Rows(), rep.Engines())
	var out bytes.Buffer
	if err := writeScaling(&out, all, threads); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"operations/s engine records value 1 thr 2 thr 4 thr",
		"YCSB A nvkv 1k 100 B 1k 1.50k (1.50) 2.50k (2.50)",
		"YCSB A pebble 1k 100 B 500 250 (0.50) -",
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the table is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one := &Report{Runs: []Run{run("nvkv", "a", 1, 1000), run("pebble", "a", 1, 500)}}
	if all, _ := scalings(one.Rows(), one.Engines()); len(all) > 0 {
		t.Errorf("one number of threads has a table: %+v", all)
	}
}
