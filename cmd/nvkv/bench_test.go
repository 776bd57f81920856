package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nvkv/bench"
	"nvkv/internal/effort"
)

// benchArgs returns a command line of a short benchmark, in a directory of its own. Its sessions
// run this test binary.
func benchArgs(t *testing.T, args ...string) (command []string, dir string) {
	t.Helper()
	t.Setenv(asProgram, "1")
	dir = effort.Dir(t)
	return append(append([]string{"bench"}, args...), "--dir", dir), dir
}

func tinyRun(t *testing.T, name string, more ...string) (out, dir string) {
	t.Helper()
	args, dir := benchArgs(t, append([]string{name, "--engines", "bbolt,pebble", "--records", "300", "--operations", "300",
		"--time", "50ms", "--load-time", "50ms", "--repeat", "1"}, more...)...)
	out = must(t, args...)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return out, dir
}

func readBench(t *testing.T, path string) *bench.Report {
	t.Helper()
	rep, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestBenchYCSBWritesEveryForm(t *testing.T) {
	to := t.TempDir()
	path := func(name string) string { return filepath.Join(to, name) }
	out, _ := tinyRun(t, "ycsb", "--workloads", "E,a", "--threads", "1,2",
		"--json", path("r.json"), "--csv", path("r.csv"), "--html", path("r.html"), "--plots", path("img"))
	for _, want := range []string{"YCSB A", "YCSB E", "bbolt", "pebble", "p99.9", "fences/op"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not say %q:\n%s", want, out)
		}
	}
	if a, e := strings.Index(out, "YCSB A"), strings.Index(out, "YCSB E"); a > e {
		t.Error("E ran before A")
	}
	rep := readBench(t, path("r.json"))
	if want := 2 * 2 * 3; len(rep.Runs) != want { // engines, threads, load and two workloads
		t.Errorf("%d runs, want %d", len(rep.Runs), want)
	}
	for _, name := range []string{"r.csv", "r.html", "img/throughput.png", "img/write-amplification.svg"} {
		if info, err := os.Stat(path(name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBenchAllWritesEveryForm checks that everything runs to its end unattended, and that each part
// is in every form.
func TestBenchAllWritesEveryForm(t *testing.T) {
	to := t.TempDir()
	path := func(name string) string { return filepath.Join(to, name) }
	args, dir := benchArgs(t, "all", "--engines", "nvkv,pebble", "--records", "200", "--sizes", "50", "--operations", "100",
		"--time", "10ms", "--load-time", "10ms", "--warmup", "0", "--repeat", "1", "--shrink-wait", "10ms", "--stall-time", "20ms", "--stall-records", "200",
		"--json", path("r.json"), "--csv", path("r.csv"), "--html", path("r.html"), "--plots", path("img"))
	must(t, args...)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	met := map[string]bool{}
	for _, run := range readBench(t, path("r.json")).Runs {
		met[run.Engine+" "+run.Workload] = true
		met[fmt.Sprint(run.Engine, " ", run.Workload, " of ", run.ValueBytes)] = true
	}
	for _, engine := range []string{"nvkv", "pebble"} {
		for _, workload := range []string{"load", "a", "b", "c", "d", "e", "e-view", "f", "scan-all", "get", "miss", "update", "batch-1000",
			"reopen", "reopen-killed", "delete-rest", "load-ordered", "scan-ordered", "stall", "e-view of 1000"} {
			if !met[engine+" "+workload] {
				t.Errorf("no run of %s on %s", workload, engine)
			}
		}
	}
	for _, name := range []string{"r.csv", "r.html", "img/throughput.svg", "img/write-amplification.png"} {
		if info, err := os.Stat(path(name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBenchJSONOnStandardOutput(t *testing.T) {
	out, _ := tinyRun(t, "ycsb", "--workloads", "c", "--json", "-")
	var rep bench.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil || len(rep.Runs) != 4 {
		t.Errorf("%d runs, %v", len(rep.Runs), err)
	}
}

func TestBenchPropertyFile(t *testing.T) {
	file := newFile(t, "mine.properties", "recordcount=150\noperationcount=100\nfieldcount=4\nfieldlength=25\nreadproportion=0.5\nupdateproportion=0.5\nrocksdb.dir=/x\n")
	args, _ := benchArgs(t, "ycsb", "--engines", "bbolt", "--repeat", "1", "-P", file, "-p", "operationcount=60", "--json", "-")
	r := nvkv(t, args...)
	if r.code != exitDone || !strings.Contains(r.errOut, "rocksdb.dir") {
		t.Fatalf("exit %d, stderr %q", r.code, r.errOut)
	}
	var rep bench.Report
	if err := json.Unmarshal([]byte(r.out), &rep); err != nil {
		t.Fatal(err)
	}
	run := rep.Runs[len(rep.Runs)-1]
	if run.Workload != "mine.properties" || run.Records != 150 || run.ValueBytes != 100 || run.Ops > 60 {
		t.Errorf("%+v", run)
	}
}

func TestBenchMicroAndFloor(t *testing.T) {
	out, _ := tinyRun(t, "micro", "--shrink-wait", "10ms")
	for _, want := range []string{"get", "miss", "batch-1000", "reopen-killed", "delete-rest", "scan-ordered"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not say %q:\n%s", want, out)
		}
	}
	args, _ := benchArgs(t, "floor", "--time", "5ms", "--repeat", "1")
	if out := must(t, args...); !strings.Contains(out, "pwrite+fdatasync 128 B") {
		t.Errorf("no floor in:\n%s", out)
	}
}

func TestBenchWrongUsage(t *testing.T) {
	for words, args := range map[string][]string{
		"rocksdb":       {"ycsb", "--engines", "rocksdb"},
		"--repeat":      {"ycsb", "--repeat", "0"},
		"--threads":     {"ycsb", "--threads", "0"},
		"--value-size":  {"micro", "--value-size", "-1"},
		"--records":     {"micro", "--records", "0"},
		"\"z\"":         {"ycsb", "--workloads", "a,z"},
		"readpropotion": {"ycsb", "-p", "readpropotion=1"},
		"name=value":    {"ycsb", "-p", "readproportion"},
		"gauss":         {"ycsb", "--distribution", "gauss"},
		"OLD.json":      {"compare", "one.json"},
	} {
		fails(t, exitUsage, []string{words}, append([]string{"bench"}, args...)...)
	}
}

func TestBenchBadPaths(t *testing.T) {
	file := newFile(t, "file", "")
	fails(t, exitFailed, []string{"/no/such"}, "bench", "ycsb", "--dir", "/no/such")
	fails(t, exitUsage, []string{"not a directory"}, "bench", "ycsb", "--dir", file)
	fails(t, exitFailed, []string{"/no/such"}, "bench", "floor", "--html", "/no/such/x.html")
	fails(t, exitFailed, []string{"absent"}, "bench", "ycsb", "-P", filepath.Join(t.TempDir(), "absent"))
	fails(t, exitFailed, []string{"file"}, "bench", "compare", file, file)
}

func TestBenchCompare(t *testing.T) {
	report := func(name string, ops float64) string {
		rep := &bench.Report{Runs: []bench.Run{{Engine: bench.Home, Workload: "a", Phase: "run", Threads: 1, OpsPerS: ops}}}
		path := filepath.Join(t.TempDir(), name)
		if err := writeFile(path, rep.WriteJSON); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before, after := report("old.json", 1000), report("new.json", 800)
	if out := must(t, "bench", "compare", before, after); !strings.Contains(out, "0.80") || !strings.Contains(out, "slower") {
		t.Errorf("unclear:\n%s", out)
	}
	must(t, "bench", "compare", before, after, "--fail-below", "0.7")
	if r := nvkv(t, "bench", "compare", before, after, "--fail-below", "0.9"); r.code != exitFailed || !strings.Contains(r.errOut, "0.80") {
		t.Errorf("exit %d, stderr %q", r.code, r.errOut)
	}
}

// TestBenchInterrupted checks that an interrupted benchmark ends at once and removes its stores.
func TestBenchInterrupted(t *testing.T) {
	dir := t.TempDir()
	cmd := program(t, "bench", "ycsb", "--engines", "bbolt", "--time", "1m", "--load-time", "1m", "--operations", "100000000", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			break
		} else if time.Since(start) > effort.Hang {
			t.Fatal("no store was made")
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("an interrupted benchmark exits with 0")
		}
	case <-time.After(effort.Hang):
		cmd.Process.Kill()
		t.Fatal("still running long after SIGINT")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
