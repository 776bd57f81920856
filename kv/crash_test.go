package kv

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv/internal/locks"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// The crash suite runs random operations on a simulated medium and opens what
// a power failure could have left, at every fence, between writes and after
// every acknowledgement. It goes on from there: an image is recovered, used,
// and crashed again, and recovery itself is crashed. Package crashtest does
// that; here is what an operation is and what must be true of a store.
//
// The oracle: a store that was opened holds what was acknowledged, or that and
// the whole of the one operation in flight. Once an opening has decided which,
// its answer is the next one's acknowledged state. Check is clean, the store
// takes writes, and another opening finds the same.

// crashDevice lets several openings follow each other on one simulated medium,
// where a test has no more to do with crashes.
type crashDevice struct{ *nvmap.Sim }

// Close keeps the medium for the next opening.
func (crashDevice) Close() error { return nil }

// crashMediumBytes bounds a simulated medium.
const crashMediumBytes = 8 << 20

// crasher holds what all sessions of one run share.
type crasher struct {
	seed     uint64
	rng      *rand.Rand
	opt      Options
	images   []int // how many images a fence gets, by depth
	ops      []int // how many operations a session has, by depth
	chain    int   // one image in so many is used and crashed again, one has its recovery crashed
	between  int   // one write in so many is a crash point
	model    nvmap.Model
	poison   bool             // words in flight may end as noise
	sites    *crashtest.Sites // one of which is disabled
	unmapped bool             // the store reads nothing in place
	late     bool             // writes show in the mapping behind their fence only
	used     bool             // the device held something else before
	mixed    bool             // some commits have another durability than the store
	quiet    bool             // no checkpoints and no clean closing: chains without them
	limit    int64            // size at which the medium is full; 0: far away
	full     int              // writes that found it full
	opened   int              // images that were opened
	value    int              // numbers values, so that no two are equal
	began    time.Time
}

func newCrasher(seed uint64) *crasher {
	return &crasher{
		seed: seed,
		rng:  rand.New(rand.NewPCG(seed, 2)),
		// One goroutine at a time writes: what happens follows from the seed.
		opt:     Options{SlabBytes: 4096, CheckpointBytes: 1 << 30, EvacuateBytes: -1},
		images:  []int{4, 2, 1},
		chain:   30,
		between: 16,
		ops:     []int{1000, 5, 3},
		began:   time.Now(),
	}
}

// crashOptions are the run's.
func (c *crasher) crashOptions() crashtest.Options {
	o := crashtest.Options{Seed: c.seed, Steps: c.ops, Images: c.images, Between: c.between, Chain: c.chain,
		Model: c.model, MaxBytes: crashMediumBytes, Sites: c.sites}
	if c.poison {
		o.Poison = mayBeNoise
	}
	if c.used {
		o.Prepare = fillDevice
	}
	if c.late {
		o.Base = crashtest.ShowingLate
	}
	return o
}

// fillDevice leaves a device as another user did who zeroed its ends.
func fillDevice(dev nvmap.Device) error {
	const zeroed, size = 1 << 20, 4 << 20
	if err := dev.Grow(size); err != nil {
		return err
	}
	return dev.Write(zeroed, bytes.Repeat([]byte{0xa5}, size-2*zeroed))
}

// mayBeNoise says where the store believes nothing that was in flight: not in
// the words of the head and of the descriptors, which are stored whole (A4, A5).
// The numbers are those of slabs of 4 KiB, see docs/format.md.
func mayBeNoise(line nvmap.Off) bool {
	const supers, group, header, descriptors = 5 * 4096, 64 * 4096, 64, 64 * 64
	if line < supers {
		return line >= 4096
	}
	at := (line - supers) % group
	return at < header || at >= header+descriptors
}

// session is one opening of a medium and what must be in it.
type session struct {
	c     *crasher
	m     *crashtest.Medium
	dev   *nvmap.Sim // of m
	db    *DB
	acked model
	next  model    // with the operation in flight; nil between operations
	past  []model  // what the store held since it was last known to be durable, in relaxed mode
	each  []change // of a group in flight that may fall apart: the store may be full
	err   error    // first failure that a crash met
}

func (c *crasher) options() *Options { o := c.opt; return &o }

// start makes a new store on a new medium, on which nothing crashes by itself.
func (c *crasher) start() (*session, error) {
	first := &session{c: c, acked: model{}}
	m, err := crashtest.Start(c.crashOptions(), first)
	if err != nil {
		return first, errors.Join(err, m.Close())
	}
	return m.Session().(*session), nil
}

// Recover opens what a crash left, and decides which of the legal states it is.
func (s *session) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	next := &session{c: s.c, m: m, dev: m.Sim()}
	m.Sim().SetLimit(s.c.limit)
	var err error
	locks.Apart(func() { // the store that crashes has locks: it is in the middle of a write
		if err = next.open(); err == nil {
			next.acked, err = s.decide(next.db)
		}
		if err != nil {
			abandon(next.db)
		}
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// Step does one random operation.
func (s *session) Step(*crashtest.Medium) (err error) {
	locks.Apart(func() { err = s.step() })
	return err
}

// End asks of a recovered store that it takes writes and is found again, and
// drops it.
func (s *session) End(m *crashtest.Medium) error {
	var err error
	locks.Apart(func() {
		if m.Depth() > 0 {
			err = s.goesOn()
		}
		abandon(s.db)
	})
	return err
}

// end drops a session that start made.
func (s *session) end() error {
	if s.m == nil {
		return nil
	}
	s.c.opened = s.m.Report().States
	s.c.tally(s.m.Report())
	return s.m.Close()
}

// open opens the session's medium.
func (s *session) open() (err error) {
	defer rescue(&err)
	if err := s.m.Sim().Show(); err != nil { // what a process has written outlives it
		return err
	}
	s.db, err = OpenDevice(s.c.device(s.m.Device()), s.c.options())
	return err
}

// device is what a store is opened on.
func (c *crasher) device(dev nvmap.Device) nvmap.Device {
	if c.unmapped {
		return unmappedDevice{Device: dev}
	}
	return dev
}

// rescue turns a panic into an error.
func rescue(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}

// abandon drops a store as a crash does: nothing more is written.
func abandon(db *DB) {
	if db == nil {
		return
	}
	db.closed.Store(true)
	db.closing.Lock()
	db.done = true // a Close that is due later finds nothing to do
	db.closing.Unlock()
	if db.late != nil {
		<-db.late
	}
	db.stopCheckpointer()
	_ = db.m.Close()
}

// holds fails unless a store has exactly these contents.
func holds(db *DB, want model) error {
	got, err := contents(db)
	if err != nil {
		return err
	}
	if d := difference(got, want); d != "" {
		return fmt.Errorf("found again otherwise: %s", d)
	}
	return nil
}

// clean runs Check and returns its first findings as an error.
func clean(db *DB) (err error) {
	defer rescue(&err)
	var found []string
	err = db.Check(context.Background(), func(i CheckIssue) { found = append(found, i.String()) })
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("check: %d findings: %s", len(found), strings.Join(found[:min(3, len(found))], " | "))
	}
	return err
}

// skipInRace leaves out tests that open thousands of images from one goroutine:
// there is no race to find, and race builds give each image memory of the heap.
func skipInRace(t *testing.T) {
	t.Helper()
	if raceBuild {
		t.Skip("one goroutine, many images")
	}
}

// runCrashes runs the whole of one seed.
func runCrashes(c *crasher) error {
	report, err := crashtest.Run(c.crashOptions(), &session{c: c, acked: model{}})
	c.opened = report.States
	c.tally(report)
	return err
}

// tallied are the reports of all crash runs of this process.
var tallied struct {
	sync.Mutex
	runs int
	sum  crashtest.Report
}

// tally adds a report, unless a rule or a call was switched off: those states
// prove something else.
func (c *crasher) tally(r crashtest.Report) {
	if c.opt.broken != 0 || !c.sites.All() {
		return
	}
	tallied.Lock()
	defer tallied.Unlock()
	tallied.runs++
	tallied.sum.States += r.States
	tallied.sum.Points += r.Points
	tallied.sum.Steps += r.Steps
	tallied.sum.Chained += r.Chained
	tallied.sum.Recoveries += r.Recoveries
	tallied.sum.Deepest = max(tallied.sum.Deepest, r.Deepest)
	tallied.sum.Lints = tallied.sum.Lints.Add(r.Lints)
}

// sayTally prints what the crash tests of this process did.
func sayTally() {
	tallied.Lock()
	defer tallied.Unlock()
	if s := tallied.sum; s.States > 0 {
		fmt.Printf("crash states: %d at %d crash points in %d operations of %d runs; %d images used on, %d recoveries crashed, %d crashes in a row\n",
			s.States, s.Points, s.Steps, tallied.runs, s.Chained, s.Recoveries, s.Deepest)
	}
}

// leastStates returns how many crash states a whole run of all tests goes through at
// least.
func leastStates() int {
	return effort.Pick(0, 7_000, 50_000, 1_000_000)
}

// tooFewStates says why a run that was to be whole, without a filter, is not.
func tooFewStates() error {
	for _, filter := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(filter); f != nil && f.Value.String() != "" {
			return nil
		}
	}
	if testing.Short() || raceBuild || os.Getenv(crashSeedsEnv) != "" {
		return nil
	}
	tallied.Lock()
	defer tallied.Unlock()
	if n, least := tallied.sum.States, leastStates(); n < least {
		return fmt.Errorf("only %d crash states were gone through, not %d", n, least)
	}
	return nil
}

// crashSeedsEnv names the seeds that the crash tests run, "40-79" for instance:
// so that the long form can be had in pieces.
const crashSeedsEnv = "NVKV_CRASH_SEEDS"

// crashSeeds returns the seeds of a crash test: the first n, or those of
// crashSeedsEnv.
func crashSeeds(t *testing.T, n uint64) (seeds []uint64) {
	t.Helper()
	from, to := uint64(0), n-1
	if s := os.Getenv(crashSeedsEnv); s != "" {
		if k, err := fmt.Sscanf(s, "%d-%d", &from, &to); k != 2 || err != nil || to < from {
			t.Fatalf("%s=%s: want the first and the last seed, as in 40-79", crashSeedsEnv, s)
		}
	}
	for seed := from; seed <= to; seed++ {
		seeds = append(seeds, seed)
	}
	return seeds
}

// TestCrashAtEveryFence is the suite itself: random operations, every fence of
// which is crashed at. The long form runs it over many seeds and with many more
// images: hours, and -timeout 0.
func TestCrashAtEveryFence(t *testing.T) {
	skipInRace(t)
	operations := effort.Pick(25, 25, 250, 400)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](4, 4, 4, 54)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.quiet, c.opt.listLevels = seed%2 == 1, int(seed%3)
			if seed%4 == 2 { // slabs are read beside what is done
				c.opt.lateFrom = 1
			}
			c.ops[0] = operations
			if effort.Now() == effort.Long {
				c.images = []int{12, 3, 2}
			}
			err := runCrashes(c)
			t.Logf("%d images of %d operations recovered in %v", c.opened, c.ops[0], time.Since(c.began).Round(time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestTrace15_CrashCreation crashes the creation of a store at each fence and write:
// what is left opens as an empty store.
func TestTrace15_CrashCreation(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	c := newCrasher(1)
	c.images, c.ops, c.between, c.chain = []int{40, 3, 1}, []int{0, 2, 2}, 1, 60
	err := runCrashes(c)
	t.Logf("%d images", c.opened)
	if err != nil {
		t.Fatal(err)
	}
	if c.opened < 300 {
		t.Errorf("only %d images", c.opened)
	}
}

// TestCrashSuiteNotices runs the random suite with rules switched off, one at a
// time: it must object, without being told where to look. For the rules that it
// would take long to stumble over there are traces.
func TestCrashSuiteNotices(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("the traces show each rule's absence, one by one")
	}
	needsSwitches(t)
	for name, rule := range map[string]rules{
		"R4": ruleR4, "R5": ruleR5, "R6Recovery": ruleR6Recovery,
		"R9Fence": ruleR9Fence, "R10": ruleR10, "R12": ruleR12, "R15": ruleR15,
		"I2": ruleI2, "I3": ruleI3, "I4": ruleI4,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			opened := 0
			for seed := range uint64(6) {
				c := newCrasher(seed)
				c.opt.broken = rule
				c.ops[0] = 80
				err := runCrashes(c)
				opened += c.opened
				if err != nil {
					t.Logf("after %d images, %v", opened, time.Since(began))
					return
				}
			}
			t.Errorf("nothing was wrong in %d images, %v", opened, time.Since(began))
		})
	}
}
