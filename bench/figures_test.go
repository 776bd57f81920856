package bench

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/bench/ycsb"
)

func TestMedians(t *testing.T) {
	raw := []Run{}
	for rep, ops := range []float64{300, 100, 200} {
		raw = append(raw, Run{Engine: "nvkv", Workload: "a", Phase: "run", OpsPerS: ops, P99: int64(1000 - ops), UserBytes: uint64(ops), Repetition: rep + 1})
		raw = append(raw, Run{Engine: "bbolt", Workload: "a", Phase: "run", OpsPerS: ops / 10})
	}
	got := medians(raw)
	if len(got) != 2 || got[0].Engine != "nvkv" {
		t.Fatalf("%d runs, the first of %s", len(got), got[0].Engine)
	}
	m := got[0]
	if m.OpsPerS != 200 || m.OpsPerSMin != 100 || m.OpsPerSMax != 300 || m.P99 != 800 || m.UserBytes != 200 || m.Repetitions != 3 {
		t.Errorf("wrong median: %+v", m)
	}
}

// TestJSONNames checks that the JSON has exactly the names that other programs rely on.
func TestJSONNames(t *testing.T) {
	text, err := json.Marshal(Report{Runs: []Run{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Machine map[string]any
		Runs    []map[string]any
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"engine", "workload", "phase", "threads", "records", "ops", "ops_per_s", "p50_ns", "p99_ns", "p999_ns",
		"max_ns", "user_bytes", "media_bytes", "fences", "disk_bytes", "rss_anon_bytes"} {
		if _, ok := got.Runs[0][name]; !ok {
			t.Errorf("a run has no %q", name)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	rep := &Report{Title: "x", Created: time.Now().UTC().Truncate(time.Second), Runs: []Run{{Engine: "nvkv", Workload: "a", OpsPerS: 1.5, Series: &Series{IntervalNs: 1, Ops: []uint64{1, 2}}}}}
	var text bytes.Buffer
	if err := rep.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	back, err := ReadReport(&text, "x.json")
	if err != nil || !reflect.DeepEqual(rep, back) {
		t.Errorf("came back as %+v, %v", back, err)
	}
	for _, bad := range []string{"", "{}", "[1]", `{"runs":[]}`, `{"runs":3}`} {
		if _, err := ReadReport(strings.NewReader(bad), "bad.json"); err == nil || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCSV(t *testing.T) {
	rep := &Report{Runs: []Run{{Engine: "nvkv", Workload: "a, b", OpsPerS: 12.5}, {Engine: "bbolt"}}}
	var text bytes.Buffer
	if err := rep.WriteCSV(&text); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&text).ReadAll()
	if err != nil || len(lines) != 3 || lines[1][1] != "a, b" || !slices.Contains(lines[1], "12.5") {
		t.Errorf("%v, %v", lines, err)
	}
}

func TestCompare(t *testing.T) {
	run := func(workload string, least, mid, most float64) Run {
		return Run{Engine: "nvkv", Workload: workload, OpsPerS: mid, OpsPerSMin: least, OpsPerSMax: most}
	}
	before := &Report{Runs: []Run{run("a", 90, 100, 110), run("b", 90, 100, 110), run("gone", 1, 1, 1)}}
	after := &Report{Runs: []Run{run("a", 45, 50, 55), run("b", 95, 105, 115), run("new", 1, 1, 1)}}
	changes, err := Compare(before, after)
	if err != nil || len(changes) != 2 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	if a := changes[0]; a.Ratio != 0.5 || !a.Clear() || a.Most >= 1 {
		t.Errorf("a: %+v", a)
	}
	if b := changes[1]; b.Clear() {
		t.Errorf("b lies within its spread, but is called clear: %+v", b)
	}
	var text bytes.Buffer
	if err := WriteChanges(&text, changes); err != nil || !strings.Contains(text.String(), "slower") || !strings.Contains(text.String(), "within the spread") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if _, err := Compare(before, &Report{Runs: []Run{{Engine: "other"}}}); err == nil {
		t.Error("reports without a common run were compared")
	}
}

func TestRatioIsToTheBestRealRival(t *testing.T) {
	row := Row{Runs: map[string]Run{"nvkv": {OpsPerS: 100}, "bbolt": {OpsPerS: 10}, "pebble": {OpsPerS: 50}, NoopEngine: {OpsPerS: 1e9}}}
	if ratio, rival := row.Ratio(); ratio != 2 || rival != "pebble" {
		t.Errorf("%v x %s", ratio, rival)
	}
	if least, most := row.RatioRange(); least != 0 || most != 0 {
		t.Errorf("a range of one repetition: %v to %v", least, most)
	}
	row.Runs["nvkv"] = Run{OpsPerS: 100, OpsPerSMin: 80, OpsPerSMax: 120, Repetitions: 3}
	row.Runs["pebble"] = Run{OpsPerS: 50, OpsPerSMin: 40, OpsPerSMax: 80, Repetitions: 3}
	if least, most := row.RatioRange(); least != 1 || most != 3 {
		t.Errorf("the ratio ranges from %v to %v, want 1 to 3", least, most)
	}
	delete(row.Runs, "nvkv")
	if ratio, _ := row.Ratio(); ratio != 0 {
		t.Errorf("a ratio without nvkv: %v", ratio)
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		Count(0): "0", Count(999): "999", Count(999.9): "1.00k", Count(12345): "12.3k", Count(1.05e6): "1.05M", Count(2e9): "2G",
		Bytes(100): "100 B", Bytes(1536): "1.50 KiB", Bytes(1 << 40): "1 TiB",
		Duration(999): "999ns", Duration(1500): "1.50µs", Duration(12e6): "12ms", Duration(61e9): "61s",
		Ratio(0.123): "0.12", Ratio(5.555): "5.55", Ratio(55.55): "55.5", Ratio(555.5): "556",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestSeriesFolds checks that a series has all operations of a run, however long it is.
func TestSeriesFolds(t *testing.T) {
	a, b := newSeries(), newSeries()
	for i := range 1000 {
		a.add(time.Duration(i) * 100 * time.Millisecond) // 100 s: folds
		b.add(time.Duration(i) * time.Millisecond)       // 1 s: does not
	}
	b.merge(a)
	var sum uint64
	for _, n := range b.upTo(time.Hour).Ops {
		sum += n
	}
	if sum != 2000 {
		t.Errorf("%d operations in the series, 2000 were done", sum)
	}
}

func TestLatenciesOutOfRange(t *testing.T) {
	var l latencies
	l.record(ycsb.Read, -5)
	l.record(ycsb.Read, 0)
	l.record(ycsb.Read, 200*time.Second)
	var r Run
	l.into(&r)
	if n := r.Kinds["read"].Ops; n != 3 {
		t.Errorf("%d of 3 latencies were counted", n)
	}
	if r.Max < int64(latencyMax)*99/100 {
		t.Errorf("longest is %s", Duration(r.Max))
	}
}

func TestBadPlans(t *testing.T) {
	plan := smallPlan("rocksdb")
	if _, err := plan.YCSB(nil); err == nil || !strings.Contains(err.Error(), "rocksdb") {
		t.Errorf("unknown engine: %v", err)
	}
	if _, err := CoreWorkloads("z"); err == nil {
		t.Error("workload z was found")
	}
	plan = smallPlan(MapEngine)
	plan.Properties = ycsb.Properties{"fieldcount": "0"}
	if _, err := plan.Micro(); err == nil {
		t.Error("records without fields were accepted")
	}
}

// TestSessionsThatFail checks that a session that dies or sends nonsense gives an error that says
// so.
func TestSessionsThatFail(t *testing.T) {
	tasks := []Task{{Name: "t", Jobs: []Job{smallPlan().job("nosuch")}}}
	r := testRunner(t)
	if _, err := r.Run(t.Context(), tasks, 1); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("unknown engine: %v", err)
	}
	for _, command := range [][]string{{"/nonexistent/program"}, {"false"}, {"true"}, {"sh", "-c", "echo oops >&2; exit 3"}} {
		r.Command = command
		if _, err := r.Run(t.Context(), tasks, 1); err == nil {
			t.Errorf("%v passed for a session", command)
		} else if fmt.Sprint(command) == "[sh -c echo oops >&2; exit 3]" && !strings.Contains(err.Error(), "oops") {
			t.Errorf("the error does not say what the session said: %v", err)
		}
	}
}

// TestOthersGoOnAfterAFailure checks that the failure of one engine does not lose the figures of
// the others.
func TestOthersGoOnAfterAFailure(t *testing.T) {
	plan := smallPlan(MapEngine)
	steps := []Step{{Kind: StepLoad, Name: "load"}}
	good := Task{Name: "good", Jobs: []Job{plan.job(MapEngine, steps...)}}
	bad := Task{Name: "bad", Jobs: []Job{plan.job("nosuch", steps...)}}
	report, err := testRunner(t).Run(t.Context(), []Task{bad, good}, 2)
	if err == nil || strings.Count(err.Error(), "bad, repetition 1") != 1 || strings.Contains(err.Error(), "repetition 2") {
		t.Errorf("the failure is not named once: %v", err)
	}
	if len(report.Raw) != 2 || len(report.Runs) != 1 {
		t.Errorf("%d repetitions of the good one, want 2", len(report.Raw))
	}
}

func TestDisturbedFiguresAreMarked(t *testing.T) {
	row := Row{Workload: "a", Runs: map[string]Run{"nvkv": {OpsPerS: 10, OtherCores: 1}, "bbolt": {OpsPerS: 10, OtherCores: 0.1}}}
	if got := row.Figure("nvkv"); got != "10!" {
		t.Errorf("a disturbed figure is shown as %q", got)
	}
	if got := row.Figure("bbolt"); got != "10" {
		t.Errorf("an undisturbed figure is shown as %q", got)
	}
}
