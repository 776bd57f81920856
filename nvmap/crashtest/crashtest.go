package crashtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"nvkv/nvmap"
)

// A Session is one opening of the structure under test, and what the test knows
// of its contents: at least the last state that was acknowledged and, during an
// operation, the state that the operation leads to. Which of those states counts
// is decided by Recover.
//
// All methods are called from one goroutine. A method that panics has failed.
type Session interface {
	// Step does one operation. Crashes happen inside, at the writes and fences
	// that the operation makes on the device that Recover was given.
	Step(m *Medium) error

	// Recover opens what a crash during this session left, m, and returns the
	// session of that opening. It fails if m cannot be opened or if what it holds
	// is not what this session acknowledged, with the operation in flight or
	// without it. It does not change the receiver, from which many crashes
	// recover.
	//
	// The session that Run is given is recovered from too: its medium is empty,
	// or the creation of the structure was crashed on it.
	Recover(m *Medium) (Session, error)

	// End is the last call: of a session in an image or, at the end of a run, of
	// the first one. It may look whether the structure still works, and lets go of
	// it. No crash happens inside.
	End(m *Medium) error
}

// Options of a run. The zero value is a short one.
type Options struct {
	// Seed of everything random.
	Seed uint64
	// Steps are the operations of a session, by depth: of the first one, of one
	// that recovered from its crash, and so on. Default: 100, 4, 3.
	Steps []int
	// Images bounds the states tried at each crash point, by depth; its length is
	// how many crashes follow each other at most. Every asks for all that are
	// systematic. Default: 20, 3, 2.
	Images []int
	// Between makes one write in so many a crash point, beside all fences. 1: each
	// write. Negative: none. Default: 8.
	Between int
	// Chain makes one image in so many be used and crashed again, and one in so
	// many have its recovery crashed. Default: 30. Negative: none.
	Chain int
	// Model is the granularity of the medium. Default: nvmap.Lines.
	Model nvmap.Model
	// Poison says in which lines words in flight may end as noise; see
	// nvmap.Sim.SetPoison. nil: in none.
	Poison func(line nvmap.Off) bool
	// MaxBytes bounds the medium. Default: 8 MiB.
	MaxBytes int64
	// Base makes the device beneath the simulator, which can grow to maxBytes. nil:
	// nvmap.NewMem. It is for structures that must cope with what a device may do
	// and memory does not, such as showing a write only behind its fence.
	Base func(maxBytes int64) nvmap.Device
	// Prepare puts the medium into the state in which the structure first meets
	// it. nil: it is empty.
	Prepare func(dev nvmap.Device) error
	// Sites disables a call, for Mutate.
	Sites *Sites
}

// Every asks for all systematic images of a crash point: 5,000 at most, which
// covers all subsets of 12 lines.
const Every = 0

func (o Options) withDefaults() Options {
	if o.Steps == nil {
		o.Steps = []int{100, 4, 3}
	}
	if o.Images == nil {
		o.Images = []int{20, 3, 2}
	}
	if o.Between == 0 {
		o.Between = 8
	}
	if o.Chain == 0 {
		o.Chain = 30
	}
	if o.Model == (nvmap.Model{}) {
		o.Model = nvmap.Lines
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	if o.Base == nil {
		o.Base = nvmap.NewMem
	}
	return o
}

// Report says what a run did.
type Report struct {
	Seed       uint64
	States     int // images that were recovered from: crash states
	Points     int // moments at which a crash was tried
	Steps      int // operations, those in images included
	Chained    int // images that were used and crashed again
	Recoveries int // recoveries that were crashed
	Deepest    int // most crashes in a row
	Lints      nvmap.Lints
	Took       time.Duration
}

func (r Report) String() string {
	return fmt.Sprintf("seed %d: %d states at %d crash points in %d operations, %d chains, %d recoveries crashed, %d crashes in a row, %v",
		r.Seed, r.States, r.Points, r.Steps, r.Chained, r.Recoveries, r.Deepest, r.Took.Round(time.Millisecond))
}

// Run crashes a structure on a medium of its own. See Session for what first is.
// The error is the first legal state that was missed, with what led to it.
func Run(o Options, first Session) (Report, error) {
	m, err := start(o, first, true)
	if err == nil {
		err = m.Steps(m.run.o.steps(0))
	}
	return m.Report(), errors.Join(err, m.Close())
}

// Test is Run for a test: it logs the report, and the failure fails t.
func Test(t testing.TB, o Options, first Session) Report {
	t.Helper()
	report, err := Run(o, first)
	t.Log(report)
	if err != nil {
		t.Error(err)
	}
	return report
}

// run is what all media of one run share.
type run struct {
	o      Options
	rng    *rand.Rand
	report Report
	began  time.Time
}

// A Medium is what a structure is opened on: an empty one, or what a crash left.
type Medium struct {
	run     *run
	sim     *nvmap.Sim
	depth   int
	session Session // that recovers from a crash now
	watched bool
	hook    func(fence bool)
	hooking bool
	log     []string
	err     error // first failure of a crash
}

// Start makes an empty medium and opens the structure on it. It is for tests that
// choose operations and crash points themselves: nothing crashes before Watch or
// Crash is called. Run is for all others. Close ends it, also after an error.
func Start(o Options, first Session) (*Medium, error) { return start(o, first, false) }

func start(o Options, first Session, watched bool) (*Medium, error) {
	o = o.withDefaults()
	r := &run{o: o, rng: rand.New(rand.NewPCG(o.Seed, 2)), began: time.Now()}
	r.report.Seed = o.Seed
	base := o.Base(o.MaxBytes)
	if o.Prepare != nil {
		if err := o.Prepare(base); err != nil {
			base.Close()
			base = o.Base(o.MaxBytes)
			return &Medium{run: r, sim: nvmap.NewSim(base), session: first, err: err}, err
		}
	}
	m := &Medium{run: r, sim: nvmap.NewSim(base), session: first}
	m.sim.SetModel(o.Model)
	m.sim.SetPoison(o.Poison)
	m.Watch(watched)
	s, err := m.recover(first)
	if err != nil {
		m.err = firstErr(m.err, err) // there is no session to end
		return m, fmt.Errorf("creation: %w", err)
	}
	m.session = s
	return m, nil
}

// Close ends the session and frees the medium that Start returned.
func (m *Medium) Close() error {
	m.Watch(false)
	var err error
	if m.err == nil {
		err = guard(func() error { return m.session.End(m) })
	}
	return errors.Join(err, m.sim.Close())
}

// Report returns what was done so far.
func (m *Medium) Report() Report {
	r := m.run.report
	r.Lints = m.sim.Lints()
	r.Took = time.Since(m.run.began)
	return r
}

// Device returns the medium as a device to open. Its Close keeps the medium, so
// that the structure can be opened again on it.
func (m *Medium) Device() nvmap.Device { return m.run.o.Sites.Device(m.sim) }

// Sim returns the simulator beneath Device, to inject faults and limits.
func (m *Medium) Sim() *nvmap.Sim { return m.sim }

// Session returns the session that recovers from a crash now.
func (m *Medium) Session() Session { return m.session }

// Rand returns the run's random numbers.
func (m *Medium) Rand() *rand.Rand { return m.run.rng }

// Depth returns how many crashes lie behind this medium.
func (m *Medium) Depth() int { return m.depth }

// Log notes what is being done: a failure tells the last of it.
func (m *Medium) Log(format string, args ...any) {
	const kept = 12
	if len(m.log) == 2*kept {
		m.log = append(m.log[:0], m.log[kept:]...)
	}
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// Err returns the first failure of a crash on this medium.
func (m *Medium) Err() error { return m.err }

// Steps does n operations of the medium's session.
func (m *Medium) Steps(n int) error {
	for range n {
		m.run.report.Steps++
		err := guard(func() error { return m.session.Step(m) })
		if m.err != nil {
			return m.err // err, if there is one, comes of going on regardless
		}
		if err != nil {
			return m.explain(err)
		}
	}
	return nil
}

// explain adds what led to an error.
func (m *Medium) explain(err error) error {
	last := m.log[max(0, len(m.log)-12):]
	return fmt.Errorf("seed %d, %d crashes deep, after %s: %w", m.run.o.Seed, m.depth, strings.Join(last, "; "), err)
}

// Watch has crashes happen at fences and writes of this medium, or not: a test
// that injects a fault may not know in between what a crash may leave.
func (m *Medium) Watch(on bool) {
	m.watched = on
	if !on && m.hook == nil {
		m.sim.OnFence(func() {})
		m.sim.OnWrite(func(nvmap.Off, int) {})
		return
	}
	m.sim.OnFence(func() { m.at(true) })
	m.sim.OnWrite(func(nvmap.Off, int) { m.at(false) })
}

// Hook has f called at each fence and, with false, each write, before the crash
// there: what other callers do meanwhile. f may use the structure; it is not
// called for what it does itself. nil: nothing is called.
func (m *Medium) Hook(f func(fence bool)) {
	m.hook = f
	m.Watch(m.watched)
}

// at is a fence or a write.
func (m *Medium) at(fence bool) {
	if m.hook != nil && !m.hooking {
		m.hooking = true
		m.hook(fence)
		m.hooking = false
	}
	if !m.watched {
		return
	}
	o := &m.run.o
	switch {
	case fence:
		m.Crash(o.images(m.depth))
	case o.Between > 0 && m.run.rng.IntN(o.Between) == 0:
		m.Crash(1)
	}
}

// images returns how many images a crash point at a depth gets.
func (o *Options) images(depth int) int {
	n := o.Images[min(depth, len(o.Images)-1)]
	return max(n, 0)
}

// steps returns how many operations a session at a depth does.
func (o *Options) steps(depth int) int { return o.Steps[min(depth, len(o.Steps)-1)] }

// Crash recovers from at most images states that a crash now would leave; with
// Every, from all that are systematic. A failure is kept for Err.
func (m *Medium) Crash(images int) { m.crash(images, nil) }

// CrashThen is Crash, and goes on with then on the recovered medium, instead of
// random operations. It is not watched.
func (m *Medium) CrashThen(images int, then func(*Medium) error) { m.crash(images, then) }

func (m *Medium) crash(images int, then func(*Medium) error) {
	if m.err != nil {
		return
	}
	r := m.run
	r.report.Points++
	for im := range m.sim.Images(r.rng.Uint64(), images) {
		r.report.States++
		r.report.Deepest = max(r.report.Deepest, m.depth+1)
		if err := m.try(im.Device(), then); err != nil {
			m.err = m.explain(fmt.Errorf("%v: %w", im, err))
			return
		}
	}
}

// try recovers from an image and goes on with it.
func (m *Medium) try(dev *nvmap.Sim, then func(*Medium) error) error {
	r := m.run
	child := &Medium{run: r, sim: dev, depth: m.depth + 1, session: m.session}
	deeper := child.depth < len(r.o.Images) && r.o.Chain > 0
	if deeper && r.rng.IntN(r.o.Chain) == 0 {
		r.report.Recoveries++
		child.Watch(true)
	}
	s, err := child.recover(m.session)
	child.Watch(false)
	if err != nil {
		return err
	}
	child.session = s
	switch {
	case then != nil:
		err = guard(func() error { return then(child) })
	case deeper && r.rng.IntN(r.o.Chain) == 0:
		r.report.Chained++
		child.Watch(true)
		err = child.Steps(r.o.steps(child.depth))
	}
	child.Hook(nil)
	child.Watch(false)
	if err = firstErr(child.err, err); err != nil {
		return err
	}
	if err := guard(func() error { return s.End(child) }); err != nil {
		return child.explain(err)
	}
	return nil
}

// recover has s, or what a crash of s left, opened on m.
func (m *Medium) recover(s Session) (next Session, err error) {
	err = guard(func() (err error) {
		next, err = s.Recover(m)
		return err
	})
	if m.err != nil {
		return nil, fmt.Errorf("recovery crashed: %w", m.err)
	}
	return next, err
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// device lets several openings follow each other on one medium, and says where
// its calls come from.
type device struct {
	*nvmap.Sim
	sites *Sites
}

// Close keeps the medium for the next opening.
func (device) Close() error { return nil }

func (d device) Write(off nvmap.Off, p []byte) error {
	if d.sites.disabled("write") {
		d.Sim.IgnoreWrite(1)
	}
	return d.Sim.Write(off, p)
}

func (d device) Fence() error {
	if d.sites.disabled("fence") {
		d.Sim.IgnoreFence(1)
	}
	return d.Sim.Fence()
}
