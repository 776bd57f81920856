package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchStall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stall.json")
	args, dir := benchArgs(t, "stall", "--time", "50ms", "--records", "300", "--threads", "2", "--value-size", "200", "--json", file)
	out := must(t, args...)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, want := range []string{"nvkv", "bbolt", "pebble", "p99.99", "timer", "pebble meanwhile"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not say %q:\n%s", want, out)
		}
	}
	rep := readBench(t, file)
	if len(rep.Runs) != 3 {
		t.Errorf("%d runs, want 3", len(rep.Runs))
	}
	for _, run := range rep.Runs {
		if run.Ops == 0 || run.Max == 0 || run.Phase != "stall" || run.Kinds["read"].Ops == 0 || run.Records != 300 {
			t.Errorf("%+v", run)
		}
		if (run.Engine == "nvkv") && len(run.Housekeeping) == 0 {
			t.Error("nvkv does not say what it did")
		}
	}
	for _, bad := range [][]string{{"--engines", "odd"}, {"--records", "0"}, {"--threads", "0"}, {"--repeat", "0"}, {"--time", "0s"}, {"--value-size", "8"}} {
		fails(t, exitUsage, nil, append([]string{"bench", "stall"}, bad...)...)
	}
}
