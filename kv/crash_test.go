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
	"nvkv/kv/internal/hashindex"
	"nvkv/kv/internal/locks"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// The crash suite runs random operations on a simulated medium and opens the images that a power
// failure could leave, at every fence, between writes and after every acknowledgement. It continues
// from there: an image is recovered, used, and crashed again, and recoveries are crashed. Package
// crashtest does that; this file defines the operations and the conditions that a store must
// satisfy.
//
// The oracle: an opened store holds everything acknowledged, or that and the whole of the one
// operation in flight. Once an opening has decided which, its state is the acknowledged one for the
// next opening. Check reports nothing, the store takes writes, and another opening finds the same.

// crashDevice allows several openings of one simulated medium, in tests that do not crash any more.
type crashDevice struct{ *nvmap.Sim }

// Close keeps the medium for the next opening.
func (crashDevice) Close() error { return nil }

// crashMediumBytes is the size of a simulated medium.
const crashMediumBytes = 8 << 20

// crasher is the state that all sessions of one run share.
type crasher struct {
	seed     uint64
	rng      *rand.Rand
	opt      Options
	images   []int // images per fence, by depth
	ops      []int // operations per session, by depth
	chain    int   // one image in chain is used and crashed again, and one has its recovery crashed
	between  int   // one write in between is a crash point
	model    nvmap.Model
	poison   bool             // words in flight may be replaced by noise
	sites    *crashtest.Sites // one of these sites is disabled
	unmapped bool             // the device is not mapped
	late     bool             // writes are visible in the mapping only after their fence
	used     bool             // the device held other bytes before
	mixed    bool             // some commits have another durability than the store
	quiet    bool             // no checkpoints and no clean closing: chains without them
	limit    int64            // size at which the medium is full; 0: none
	full     int              // writes that found it full
	opened   int              // images opened
	value    int              // numbers the values, so that no two are equal
	began    time.Time
}

func newCrasher(seed uint64) *crasher {
	return &crasher{
		seed: seed,
		rng:  rand.New(rand.NewPCG(seed, 2)),
		// One goroutine at a time writes, so the seed determines everything.
		opt:     Options{SlabBytes: 4096, CheckpointBytes: 1 << 30, EvacuateBytes: -1, HashBytes: [...]int64{0, 64, 1}[seed%3] * hashindex.BucketBytes},
		images:  []int{4, 2, 1},
		chain:   30,
		between: 16,
		ops:     []int{1000, 5, 3},
		began:   time.Now(),
	}
}

// crashOptions returns the options of the run.
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

// fillDevice leaves a device as an earlier owner might who zeroed its ends.
func fillDevice(dev nvmap.Device) error {
	const zeroed, size = 1 << 20, 4 << 20
	if err := dev.Grow(size); err != nil {
		return err
	}
	return dev.Write(zeroed, bytes.Repeat([]byte{0xa5}, size-2*zeroed))
}

// mayBeNoise says whether the store trusts no bytes in flight in a line: not in those of the head
// and of the descriptors, whose words are stored whole (A4, A5). The offsets are those of slabs of
// 4 KiB, see docs/format.md.
func mayBeNoise(line nvmap.Off) bool {
	const supers, group, header, descriptors = 5 * 4096, 64 * 4096, 64, 64 * 64
	if line < supers {
		return line >= 4096
	}
	at := (line - supers) % group
	return at < header || at >= header+descriptors
}

// session is one opening of a medium, with the contents that it must have.
type session struct {
	c     *crasher
	m     *crashtest.Medium
	dev   *nvmap.Sim // of m
	db    *DB
	acked model
	next  model    // with the operation in flight; nil between operations
	past  []model  // in relaxed mode: earlier states since the last durable one
	each  []change // of a group in flight, if it may be committed in parts
	err   error    // first failure found by a crash
}

func (c *crasher) options() *Options { o := c.opt; return &o }

// start makes a new store on a new medium, which crashes only on request.
func (c *crasher) start() (*session, error) {
	first := &session{c: c, acked: model{}}
	m, err := crashtest.Start(c.crashOptions(), first)
	if err != nil {
		return first, errors.Join(err, m.Close())
	}
	return m.Session().(*session), nil
}

// Recover opens the medium after a crash, and determines which of the legal states the store has.
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

// End checks that a recovered store takes writes and can be opened again, and drops it.
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

// end drops a session of start.
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
	if err := s.m.Sim().Show(); err != nil { // written bytes outlive the process
		return err
	}
	s.db, err = OpenDevice(s.c.device(s.m.Device()), s.c.options())
	return err
}

// device returns the device on which a store is opened.
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

// abandon drops a store like a crash: it writes nothing more.
func abandon(db *DB) {
	if db == nil {
		return
	}
	db.closed.Store(true)
	db.closing.Lock()
	db.done = true // a later Close finds nothing to do
	db.closing.Unlock()
	if db.late != nil {
		<-db.late
	}
	db.stopCheckpointer()
	_ = db.m.Close()
}

// holds returns an error unless a store has exactly these contents.
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

// skipInRace skips a test that opens thousands of images from one goroutine: there is no race to
// find, and race builds take the memory of each image from the heap.
func skipInRace(t *testing.T) {
	t.Helper()
	if raceBuild {
		t.Skip("one goroutine, many images")
	}
}

// runCrashes runs everything for one seed.
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

// tally adds a report, unless a rule or a call was switched off: those states prove something else.
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

// sayTally prints what the crash tests of this process covered.
func sayTally() {
	tallied.Lock()
	defer tallied.Unlock()
	if s := tallied.sum; s.States > 0 {
		fmt.Printf("crash states: %d at %d crash points in %d operations of %d runs; %d images used on, %d recoveries crashed, %d crashes in a row\n",
			s.States, s.Points, s.Steps, tallied.runs, s.Chained, s.Recoveries, s.Deepest)
	}
}

// leastStates returns the least number of crash states in a complete run of all tests.
func leastStates() int {
	return effort.Pick(0, 7_000, 50_000, 1_000_000)
}

// tooFewStates says why a run without a filter, which should be complete, is not.
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

// crashSeedsEnv names the seeds of the crash tests, for example "40-79", so that the long form can
// be run in parts.
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

// TestCrashAtEveryFence is the suite itself: random operations, with a crash at every fence. The
// long form runs it over many seeds and with many more images, which takes hours: use -timeout 0.
func TestCrashAtEveryFence(t *testing.T) {
	skipInRace(t)
	operations := effort.Pick(25, 25, 250, 400)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](4, 4, 4, 54)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			c.quiet, c.opt.listLevels = seed%2 == 1, int(seed%3)
			if seed%4 == 2 { // slabs are read beside the operations
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

// TestTrace15_CrashCreation crashes the creation of a store at each fence and write. The result
// opens as an empty store.
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

// TestCrashSuiteNotices runs the random suite with one rule switched off at a time: the suite must
// object, without a hint where to look. For rules for which that would take long there are traces.
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
