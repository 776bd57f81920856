package crashtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// TestDepth checks that crashes follow one another to the length of Images, in images that were
// used and in recoveries.
func TestDepth(t *testing.T) {
	for depth := 1; depth <= 3; depth++ {
		o := crashtest.Options{Seed: 7, Steps: []int{20, 3, 3}, Images: []int{10, 3, 3}[:depth], Chain: 6, Between: 1}
		report := crashtest.Test(t, o, &stackTest{})
		if report.Deepest != depth {
			t.Errorf("%d crashes in a row, want %d", report.Deepest, depth)
		}
		if deeper := depth > 1; deeper != (report.Chained > 0 && report.Recoveries > 0) {
			t.Errorf("depth %d: %d chains, %d recoveries", depth, report.Chained, report.Recoveries)
		}
	}
}

// TestDeterministic checks that equal options give equal runs, and different seeds different runs.
func TestDeterministic(t *testing.T) {
	run := func(seed uint64) string {
		_, err := crashtest.Run(crashtest.Options{Seed: seed, Chain: 4}, &stackTest{hasty: true})
		if err == nil {
			t.Fatal("the bug was not found")
		}
		return err.Error()
	}
	once, again := run(3), run(3)
	if once != again {
		t.Error("equal seeds, different failures")
	}
	if once == run(4) {
		t.Error("different seeds, equal failures")
	}
}

// TestFailureTellsTheStory checks that a failure reports seed, depth, operations and image.
func TestFailureTellsTheStory(t *testing.T) {
	_, err := crashtest.Run(crashtest.Options{Seed: 12}, &stackTest{hasty: true})
	for _, part := range []string{"seed 12", "0 crashes deep", "after push", "image ", "a stack of"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

// TestEvery checks that, with all systematic images, a crash point of few lines has every subset of
// them.
func TestEvery(t *testing.T) {
	s := &plain{}
	m, err := crashtest.Start(crashtest.Options{Images: []int{crashtest.Every}}, s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Watch(false)
	const lines = 9
	for i := range nvmap.Off(lines) {
		if err := m.Device().Write(i*64, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	subsets := map[[lines]byte]bool{}
	s.recovered = func(d nvmap.Device) error {
		var set [lines]byte
		for i := range nvmap.Off(lines) {
			if err := d.Read(i*64, set[i:i+1]); err != nil {
				return err
			}
		}
		subsets[set] = true
		return nil
	}
	m.Crash(crashtest.Every)
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
	if len(subsets) != 1<<lines {
		t.Errorf("%d of %d subsets", len(subsets), 1<<lines)
	}
}

// plain is a session without a structure: the test writes to the device directly.
type plain struct {
	recovered func(nvmap.Device) error
	step      func(*crashtest.Medium) error
	end       error
}

func (p *plain) Step(m *crashtest.Medium) error { return p.step(m) }
func (p *plain) End(*crashtest.Medium) error    { return p.end }
func (p *plain) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	if p.recovered == nil {
		return p, m.Device().Grow(1 << 16)
	}
	return p, p.recovered(m.Device())
}

// TestFailures checks that an error or a panic of any method becomes the error of the run, and is
// reported once.
func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	fenced := func(m *crashtest.Medium) error { return m.Device().Fence() }
	for name, p := range map[string]*plain{
		"step":        {step: func(*crashtest.Medium) error { return boom }},
		"panic":       {step: func(*crashtest.Medium) error { panic(boom) }},
		"recover":     {step: fenced, recovered: func(nvmap.Device) error { return boom }},
		"end":         {step: fenced, end: boom},
		"end, unused": {step: func(*crashtest.Medium) error { return nil }, end: boom},
	} {
		_, err := crashtest.Run(crashtest.Options{Steps: []int{1}}, p)
		if err == nil || strings.Count(err.Error(), "boom") != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHook checks that another caller's operation runs between two operations of a step.
func TestHook(t *testing.T) {
	s := &stackTest{}
	m, err := crashtest.Start(crashtest.Options{Seed: 1}, s)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[bool]int{}
	m.Hook(func(fence bool) {
		calls[fence]++
		if err := m.Device().Write(4096, []byte{1}); err != nil { // the hook is not called for this write
			t.Error(err)
		}
	})
	if err := m.Steps(5); err != nil {
		t.Error(err)
	}
	m.Hook(nil)
	if calls[true] != 10 || calls[false] != 10 {
		t.Errorf("%d fences and %d writes were hooked, want 10 and 10", calls[true], calls[false])
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestCrashThen continues from every image with a function of the test.
func TestCrashThen(t *testing.T) {
	m, err := crashtest.Start(crashtest.Options{Seed: 1}, &stackTest{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	went := 0
	m.Watch(false)
	m.Hook(func(fence bool) {
		if fence {
			m.CrashThen(20, func(c *crashtest.Medium) error {
				went++
				if c.Depth() != 1 || c.Sim() == m.Sim() {
					return fmt.Errorf("depth %d", c.Depth())
				}
				return c.Steps(2)
			})
		}
	})
	if err := m.Steps(1); err != nil {
		t.Error(err)
	}
	m.Hook(nil)
	if went < 10 {
		t.Errorf("went on from %d images", went)
	}
}

// TestModels checks that the correct stack survives on disks as well.
func TestModels(t *testing.T) {
	for name, model := range map[string]nvmap.Model{"sectors": nvmap.Sectors, "pages": nvmap.Pages} {
		t.Run(name, func(t *testing.T) {
			crashtest.Test(t, crashtest.Options{Seed: 5, Model: model, Steps: []int{40, 3, 2}, Chain: 12, Between: 1}, &stackTest{})
		})
	}
}

// TestPoison checks that the stack reads a node only when the head names it. The head is one word,
// which the stack relies on.
func TestPoison(t *testing.T) {
	o := crashtest.Options{Seed: 5, Steps: []int{40, 3, 2}, Chain: 12, Between: 1, Poison: func(line nvmap.Off) bool { return line != 0 }}
	crashtest.Test(t, o, &stackTest{})
	o.Poison = func(nvmap.Off) bool { return true }
	if _, err := crashtest.Run(o, &stackTest{}); err == nil {
		t.Error("noise in the head went unnoticed")
	}
}

// idle pushes, and makes one fence too many.
type idle struct{ *stackTest }

func (s idle) Step(m *crashtest.Medium) error {
	return errors.Join(s.stackTest.Step(m), m.Device().Fence())
}

func (s idle) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	next, err := s.stackTest.Recover(m)
	if err != nil {
		return nil, err
	}
	return idle{next.(*stackTest)}, nil
}

// TestSurvivors checks that Mutate names a fence that is not needed.
func TestSurvivors(t *testing.T) {
	var lints nvmap.Lints
	suite := func(sites *crashtest.Sites) error {
		report, err := crashtest.Run(crashtest.Options{Steps: []int{20, 3}, Sites: sites}, idle{&stackTest{}})
		if lints.Fences == 0 {
			lints = report.Lints
		}
		return err
	}
	m, err := crashtest.Mutate(crashtest.MutateOptions{Workers: 1}, suite)
	if err != nil {
		t.Fatal(err)
	}
	left := m.Survivors()
	if len(left) != 1 || left[0].Op != "fence" || !strings.HasSuffix(left[0].Func, "idle.Step") {
		t.Errorf("%v: %v", m, left)
	}
	if lints.IdleFences < 20 {
		t.Errorf("only %d fences were idle: %+v", lints.IdleFences, lints)
	}
	sampled, err := crashtest.Mutate(crashtest.MutateOptions{Sample: 2, Seed: 1}, suite)
	if err != nil || len(sampled.Tried) != 2 || !slices.Equal(sampled.Sites, m.Sites) {
		t.Errorf("a sample of 2: %v, %v", sampled, err)
	}
}

// TestMutateNeedsAPassingSuite checks that a suite that fails unmutated is an error.
func TestMutateNeedsAPassingSuite(t *testing.T) {
	boom := errors.New("boom")
	if _, err := crashtest.Mutate(crashtest.MutateOptions{}, func(*crashtest.Sites) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if _, err := crashtest.Mutate(crashtest.MutateOptions{}, func(*crashtest.Sites) error { return nil }); err == nil {
		t.Error("a suite that hands its sites to nobody passed")
	}
}
