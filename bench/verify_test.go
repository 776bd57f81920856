package bench

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// liar is an engine that gives wrong answers on purpose.
type liar struct {
	*mapEngine
	gets  int
	first map[string][]byte // first value of each key
	lie   func(l *liar, key, value []byte) []byte
}

func (l *liar) Put(key, value []byte) error {
	if _, seen := l.first[string(key)]; !seen {
		l.first[string(key)] = slices.Clone(value)
	}
	return l.mapEngine.Put(key, value)
}

func (l *liar) Get(dst, key []byte) ([]byte, error) {
	value, err := l.mapEngine.Get(dst, key)
	l.gets++
	if err == nil && l.lie != nil {
		value = append(dst, l.lie(l, key, value[len(dst):])...)
	}
	return value, err
}

// TestWrongAnswersAreFound checks that a wrong answer of any kind ends the benchmark.
func TestWrongAnswersAreFound(t *testing.T) {
	lies := map[string]func(l *liar, key, value []byte) []byte{
		"a flipped bit":   func(_ *liar, _, v []byte) []byte { v = slices.Clone(v); v[len(v)-1] ^= 4; return v },
		"a short value":   func(_ *liar, _, v []byte) []byte { return v[:len(v)-1] },
		"an old value":    func(l *liar, k, _ []byte) []byte { return l.first[string(k)] },
		"another's value": func(l *liar, _, _ []byte) []byte { return l.first["user0006284781860667377211"] },
		"one wrong in ten": func(l *liar, k, v []byte) []byte {
			if l.gets%10 == 0 {
				return l.first[string(k)]
			}
			return v
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			if err := runLiar(t, lie); err == nil || !strings.Contains(err.Error(), "wrong data") {
				t.Errorf("not found: %v", err)
			}
		})
	}
	if err := runLiar(t, nil); err != nil {
		t.Errorf("the truth was refused: %v", err)
	}
}

// runLiar loads, updates everything, and reads while half of the operations update, all in this
// process.
func runLiar(t *testing.T, lie func(*liar, []byte, []byte) []byte) error {
	t.Helper()
	plan := smallPlan(MapEngine)
	plan.Records, plan.CheckEvery = 200, 1
	job := plan.job(MapEngine, Step{Kind: StepLoad, Name: "load"}, Step{Kind: StepRun, Name: "update", Properties: only("updateproportion")},
		Step{Kind: StepRun, Name: "mixed", Properties: only("readproportion", "updateproportion", "1")})
	engine := &liar{mapEngine: &mapEngine{values: map[string][]byte{}}, first: map[string][]byte{}, lie: lie}
	return runJobOn(t.Context(), &job, func(event) {}, func() (compat.Engine, error) { return engine, nil })
}

// TestMissingKeyIsFound checks that a missing key ends the benchmark, too.
func TestMissingKeyIsFound(t *testing.T) {
	plan := smallPlan(MapEngine)
	job := plan.job(MapEngine, Step{Kind: StepLoad, Name: "load"}, Step{Kind: StepDelete, Name: "delete", Stride: 7},
		Step{Kind: StepRun, Name: "get", Properties: only("readproportion")})
	err := runJob(t.Context(), &job, func(event) {})
	if err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("not found: %v", err)
	}
}

func TestLedgerKnowsWhoMayHaveWon(t *testing.T) {
	w, _, err := ycsb.Parse(ycsb.Properties{"recordcount": "10"})
	if err != nil {
		t.Fatal(err)
	}
	stream := func(phase, thread int, records ...uint64) *ycsb.Stream {
		s := &ycsb.Stream{Workload: w, Phase: phase, Thread: thread}
		for _, r := range records {
			s.Ops = append(s.Ops, ycsb.Op{Kind: ycsb.Update, Record: r})
		}
		return s
	}
	l := newLedger(10)
	l.apply(stream(1, 1, 1, 2, 2), 3)
	l.apply(stream(1, 2, 2, 3, 4), 2)
	for record, unsure := range []bool{false, false, true, false, false} {
		if l.unsure[record] != unsure {
			t.Errorf("record %d: unsure is %v", record, l.unsure[record])
		}
	}
	if want := ycsb.MakeVersion(1, 2, 1); l.versions[3] != want || l.versions[4] != 0 {
		t.Errorf("record 3 has %v, want %v; record 4, not executed, has %v", l.versions[3], want, l.versions[4])
	}
	l.apply(stream(2, 1, 2), 1)
	if l.unsure[2] {
		t.Error("record 2 is unsure though one thread alone wrote it in the last phase")
	}
}

// stuck stalls once, half-way.
type stuck struct {
	*mapEngine
	calls atomic.Int64
	stall time.Duration
}

func (s *stuck) Get(dst, key []byte) ([]byte, error) {
	if s.calls.Add(1) == 100 {
		time.Sleep(s.stall)
	}
	return s.mapEngine.Get(dst, key)
}

// TestTargetRateChargesStalls checks that a stall of the engine is charged to every operation that
// it delayed.
func TestTargetRateChargesStalls(t *testing.T) {
	const stall = 200 * time.Millisecond
	engine := &stuck{mapEngine: &mapEngine{values: map[string][]byte{}}, stall: stall}
	plan := smallPlan(MapEngine)
	plan.Records, plan.Operations, plan.PhaseLimit, plan.Warmup = 100, 1000, 0, 0
	job := plan.job(MapEngine, Step{Kind: StepLoad, Name: "load"},
		Step{Kind: StepRun, Name: "get", Properties: only("readproportion", "target", "2000")})
	var got Run
	err := runJobOn(t.Context(), &job, func(e event) {
		if e.Run != nil {
			got = *e.Run
		}
	}, func() (compat.Engine, error) { return engine, nil })
	if err != nil {
		t.Fatal(err)
	}
	// 400 of 1000 operations were due during the stall, and their median waited for half of it.
	if waited := got.percentile(75); waited < int64(stall/8) {
		t.Errorf("three quarters of the operations were done within %s in spite of a stall of %s", Duration(waited), stall)
	}
	if got.ServiceP99 > int64(stall/8) {
		t.Errorf("the time of service at 99 %% is %s: one operation alone was slow", Duration(got.ServiceP99))
	}
	if got.OpsPerS > 2100 {
		t.Errorf("%.0f operations per second, 2000 were asked for", got.OpsPerS)
	}
}
