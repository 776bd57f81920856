package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
	"nvkv/internal/effort"
)

// childVariable makes the test binary run a session instead of tests.
const childVariable = "NVKV_BENCH_TEST_SESSION"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer cancel()
		if Child(ctx, os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		return
	}
	os.Setenv(childVariable, "1") // for the processes that tests start
	os.Exit(m.Run())
}

func testRunner(t *testing.T) *Runner {
	t.Helper()
	return &Runner{Command: []string{os.Args[0]}, Dir: effort.Dir(t)}
}

func smallPlan(engines ...string) Plan {
	p := DefaultPlan()
	p.Engines, p.Records, p.Operations = engines, 1000, 1000
	p.PhaseLimit, p.LoadLimit, p.ShrinkWait = 0, 0, 20*time.Millisecond // few operations, and the machine may be slow
	p.Warmup, p.CheckEvery = time.Millisecond, 4
	return p
}

func mustRun(t *testing.T, tasks []Task, err error) *Report {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r := testRunner(t)
	report, err := r.Run(t.Context(), tasks, 1)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(r.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return report
}

func find(t *testing.T, r *Report, engine, workload string) Run {
	t.Helper()
	i := slices.IndexFunc(r.Runs, func(run Run) bool { return run.Engine == engine && run.Workload == workload })
	if i < 0 {
		t.Fatalf("no run of %s on %s", workload, engine)
	}
	return r.Runs[i]
}

func TestYCSBOnEveryEngine(t *testing.T) {
	workloads, err := CoreWorkloads("a", "b", "c", "f", "d", "e")
	if err != nil {
		t.Fatal(err)
	}
	engines := append([]string{MapEngine, NoopEngine}, compat.Names()...)
	plan := smallPlan(engines...)
	plan.Operations = 400 // scans of the reference engine sort its map
	tasks, err := plan.YCSB(workloads)
	report := mustRun(t, tasks, err)
	if want := len(engines) * 7; len(report.Runs) != want {
		t.Errorf("%d runs, want %d", len(report.Runs), want)
	}
	for _, run := range report.Runs {
		what := fmt.Sprintf("%s on %s", run.Workload, run.Engine)
		if run.Ops == 0 || run.OpsPerS <= 0 || run.P50 <= 0 || run.Max < run.P999 || run.P999 < run.P99 || run.P99 < run.P50 {
			t.Errorf("%s: impossible figures: %+v", what, run)
		}
		if run.Engine == NoopEngine {
			continue
		}
		if writes := run.Workload != "c"; writes != (run.UserBytes > 0) {
			t.Errorf("%s: %d user bytes", what, run.UserBytes)
		}
		if reads := run.Workload != "load" && run.Workload != "e"; reads && run.Checked == 0 {
			t.Errorf("%s: no read was compared with what was written", what)
		}
		if run.Workload == "e" && run.Entries < 10*run.Ops {
			t.Errorf("%s: %d scans met only %d records", what, run.Ops, run.Entries)
		}
		if run.Engine != MapEngine && (run.DiskBytes == 0 || run.UserBytes > 0 && (run.Fences == 0 || run.MediaBytes < run.UserBytes)) {
			t.Errorf("%s: disk %d, fences %d, media %d of user %d", what, run.DiskBytes, run.Fences, run.MediaBytes, run.UserBytes)
		}
	}
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}

// Scans in a snapshot of their own meet what others do, and reads in batches read that many records.
func TestSnapshotScansAndReadBatches(t *testing.T) {
	workloads, err := CoreWorkloads("c", "e")
	if err != nil {
		t.Fatal(err)
	}
	engines := append([]string{MapEngine}, compat.Names()...)
	plan := smallPlan(engines...)
	plan.Properties = ycsb.Properties{"scansnapshot": "true", "readbatch": "7"}
	plan.Operations = 400
	tasks, err := plan.YCSB(workloads)
	report := mustRun(t, tasks, err)
	for _, engine := range engines {
		if run := find(t, report, engine, "c"); run.Entries != 7*run.Ops {
			t.Errorf("%s: %d reads in batches of 7 read %d records", engine, run.Ops, run.Entries)
		}
		if run := find(t, report, engine, "e"); run.Entries < 10*run.Ops {
			t.Errorf("%s: %d scans met only %d records", engine, run.Ops, run.Entries)
		}
	}
}

func TestMicroOnEveryEngine(t *testing.T) {
	plan := smallPlan(compat.Names()...)
	tasks, err := plan.Micro()
	report := mustRun(t, tasks, err)
	for _, engine := range compat.Names() {
		if got := find(t, report, engine, "reopen-killed"); got.Checked == 0 {
			t.Errorf("%s: nothing was verified after the kill", engine)
		}
		if scan := find(t, report, engine, "scan-all"); scan.Entries%plan.Records != 0 {
			t.Errorf("%s: full scans met %d records", engine, scan.Entries)
		}
		if miss := find(t, report, engine, "miss"); miss.ReadBytes != 0 {
			t.Errorf("%s: absent keys had %d bytes", engine, miss.ReadBytes)
		}
		if batch := find(t, report, engine, "batch-1000"); batch.Fences > batch.Ops/10 {
			t.Errorf("%s: %d fences for %d operations in batches of 1000", engine, batch.Fences, batch.Ops)
		}
		find(t, report, engine, "delete-rest")
		find(t, report, engine, "scan-ordered")
	}
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}

func TestFloors(t *testing.T) {
	plan := smallPlan()
	plan.PhaseLimit = 20 * time.Millisecond
	report := mustRun(t, plan.Floors(), nil)
	for _, run := range report.Runs {
		if run.OpsPerS <= 0 || run.P50 <= 0 {
			t.Errorf("%s: impossible figures: %+v", run.Workload, run)
		}
	}
	if len(report.Runs) < 6 {
		t.Errorf("only %d floors", len(report.Runs))
	}
	var table bytes.Buffer
	report.WriteTable(&table)
	t.Logf("\n%s", table.String())
}
