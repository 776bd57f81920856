package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchMap(t *testing.T) {
	file := filepath.Join(t.TempDir(), "map.json")
	args, dir := benchArgs(t, "map", "--size", "64", "--time", "20ms", "--threads", "1,2", "--mode", "cached,direct,direct-protect", "--policy", "s3fifo",
		"--delay", "10ns", "--json", file)
	out := must(t, args...)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, want := range []string{"mmap", "cached s3fifo", "direct-protect s3fifo", "x mmap", "of it"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not say %q:\n%s", want, out)
		}
	}
	rep := readBench(t, file)
	if want := 2 * 5 * 4; len(rep.Runs) != want { // threads, contestants, tests
		t.Errorf("%d runs, want %d", len(rep.Runs), want)
	}
	for _, run := range rep.Runs {
		if run.Ops == 0 || run.OpsPerS <= 0 || run.Phase != "map" {
			t.Errorf("%+v", run)
		}
	}
	for _, bad := range [][]string{{"--size", "33"}, {"--mode", "odd"}, {"--policy", "odd"}, {"--threads", "0"}, {"--repeat", "0"}, {"--delay", "-1s"}} {
		fails(t, exitUsage, nil, append([]string{"bench", "map"}, bad...)...)
	}
}
