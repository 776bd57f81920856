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

// A Session is one opening of the structure under test, together with the contents that the test
// expects. It knows at least the last acknowledged state and, during an operation, the state that
// the operation leads to. Recover decides which of these states are legal.
//
// All methods are called from one goroutine. A panic in a method counts as a failure.
type Session interface {
	// Step does one operation. Crashes happen inside, at the writes and fences of the operation on
	// the device that Recover was given.
	Step(m *Medium) error

	// Recover opens m, the medium that a crash during this session left, and returns the session of
	// that opening. It fails if m cannot be opened, or if its contents are not those that this
	// session acknowledged, with or without the operation in flight. It must not change the
	// receiver, from which many crashes recover.
	//
	// Run also calls Recover of the session that it is given. The medium is then empty, or the
	// creation of the structure has crashed on it.
	Recover(m *Medium) (Session, error)

	// End is the last call, for a session in an image and, at the end of a run, for the first
	// session. It may check that the structure still works, and closes it. No crash happens inside.
	End(m *Medium) error
}

// Options are the options of a run. The zero value gives a short run.
type Options struct {
	// Seed is the seed of all random choices.
	Seed uint64
	// Steps are the numbers of operations of a session, by depth: of the first session, of one that
	// recovered from its crash, and so on. Default: 100, 4, 3.
	Steps []int
	// Images bounds the states tried at each crash point, by depth. Its length bounds how many
	// crashes follow one another. Every asks for all systematic images. Default: 20, 3, 2.
	Images []int
	// Between makes one write in Between a crash point, in addition to all fences. 1: each write.
	// Negative: none. Default: 8.
	Between int
	// Chain makes the run use and crash again one image in Chain, and crash the recovery of one
	// image in Chain. Default: 30. Negative: none.
	Chain int
	// Model is the granularity of the medium. Default: nvmap.Lines.
	Model nvmap.Model
	// Poison selects lines in which words in flight may become noise; see nvmap.Sim.SetPoison. nil:
	// none.
	Poison func(line nvmap.Off) bool
	// MaxBytes bounds the size of the medium, in bytes. Default: 8 MiB.
	MaxBytes int64
	// Base makes the device beneath the simulator, which can grow to maxBytes. nil: nvmap.NewMem.
	// It is for structures that must work on devices that differ from memory, such as one that
	// shows a write only after its fence.
	Base func(maxBytes int64) nvmap.Device
	// Prepare puts the medium into the state that the structure first finds. nil: it is empty.
	Prepare func(dev nvmap.Device) error
	// Sites disables a call, for Mutate.
	Sites *Sites
}

// Every asks for all systematic images of a crash point: 5,000 at most, which covers all subsets of
// 12 lines.
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

// Report counts the events of a run.
type Report struct {
	Seed       uint64
	States     int // images that were recovered from: crash states
	Points     int // crash points
	Steps      int // operations, including those in images
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

// Run crashes a structure on a medium of its own, beginning with the session first; see Session.
// The error describes the first state that is not legal, and the events that led to it.
func Run(o Options, first Session) (Report, error) {
	m, err := start(o, first, true)
	if err == nil {
		err = m.Steps(m.run.o.steps(0))
	}
	return m.Report(), errors.Join(err, m.Close())
}

// Test is Run for a test: it logs the report, and a failure fails t.
func Test(t testing.TB, o Options, first Session) Report {
	t.Helper()
	report, err := Run(o, first)
	t.Log(report)
	if err != nil {
		t.Error(err)
	}
	return report
}

// run is the state that all media of one run share.
type run struct {
	o      Options
	rng    *rand.Rand
	report Report
	began  time.Time
}

// A Medium is the medium that a structure is opened on: an empty one, or one that a crash left.
type Medium struct {
	run     *run
	sim     *nvmap.Sim
	depth   int
	session Session // recovers from a crash now
	watched bool
	hook    func(fence bool)
	hooking bool
	log     []string
	err     error // first failure of a crash
}

// Start makes an empty medium and opens the structure on it. It is for tests that choose operations
// and crash points themselves: nothing crashes before Watch or Crash is called. Other tests use
// Run. The caller calls Close, also after an error.
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

// Report returns the counts so far.
func (m *Medium) Report() Report {
	r := m.run.report
	r.Lints = m.sim.Lints()
	r.Took = time.Since(m.run.began)
	return r
}

// Device returns the medium as a device to open. Closing that device keeps the medium, so that the
// structure can be opened on it again.
func (m *Medium) Device() nvmap.Device { return m.run.o.Sites.Device(m.sim) }

// Sim returns the simulator beneath Device, to inject faults and limits.
func (m *Medium) Sim() *nvmap.Sim { return m.sim }

// Session returns the session that would recover from a crash now.
func (m *Medium) Session() Session { return m.session }

// Rand returns the source of the run's random numbers.
func (m *Medium) Rand() *rand.Rand { return m.run.rng }

// Depth returns the number of crashes that led to this medium.
func (m *Medium) Depth() int { return m.depth }

// Log notes an event. A failure reports the last of them.
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
			return m.err // an error of the step may only follow from it
		}
		if err != nil {
			return m.explain(err)
		}
	}
	return nil
}

// explain adds to an error the events that led to it.
func (m *Medium) explain(err error) error {
	last := m.log[max(0, len(m.log)-12):]
	return fmt.Errorf("seed %d, %d crashes deep, after %s: %w", m.run.o.Seed, m.depth, strings.Join(last, "; "), err)
}

// Watch turns crashes at fences and writes of this medium on or off. A test that injects a fault
// turns them off while it does not know which states are legal.
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

// Hook sets f to be called at each fence and, with false, each write, before the crash there. It
// stands for operations of other callers. f may use the structure; it is not called for its own
// writes and fences. nil: no hook.
func (m *Medium) Hook(f func(fence bool)) {
	m.hook = f
	m.Watch(m.watched)
}

// at is called at each fence and write.
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

// images returns the number of images of a crash point at a depth.
func (o *Options) images(depth int) int {
	n := o.Images[min(depth, len(o.Images)-1)]
	return max(n, 0)
}

// steps returns the number of operations of a session at a depth.
func (o *Options) steps(depth int) int { return o.Steps[min(depth, len(o.Steps)-1)] }

// Crash recovers from at most images states that a crash now would leave. With Every it recovers
// from all systematic states. Err returns a failure.
func (m *Medium) Crash(images int) { m.crash(images, nil) }

// CrashThen is Crash, and calls then on each recovered medium instead of doing random operations.
// Those media are not watched.
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

// recover opens on m the session s, or the state that a crash of s left.
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

// device is the medium with a Close that keeps it, and with calls that Sites counts.
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
