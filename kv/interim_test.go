package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// interimStore is a store that is dropped and opened again, with its replay beside readers.
type interimStore struct {
	dev  nvmap.Device
	opt  Options
	rng  *rand.Rand
	want model
	db   *DB

	rotten bool // damage outside of records, which Check reports
}

func newInterimStore(dev nvmap.Device, o Options) *interimStore {
	o.lateFrom, o.SlabBytes, o.EvacuateBytes = 1, 16<<10, -1
	return &interimStore{dev: dev, opt: o, rng: rand.New(rand.NewPCG(7, 8)), want: model{}}
}

func (s *interimStore) open() (err error) {
	o := s.opt
	s.db, err = OpenDevice(s.dev, &o)
	return err
}

// interimKeys is the number of keys; some of them are never stored.
const interimKeys = 1500

func interimKey(i int) string { return fmt.Sprintf("key%06d", i) }

// work does operations of all kinds, except rare ones that are not answered before a replay ends:
// keys in runs.
func (s *interimStore) work(operations int) error {
	for range operations {
		if err := s.operation(); err != nil {
			return err
		}
	}
	return nil
}

func (s *interimStore) operation() error {
	var changes []change
	r := s.rng.IntN(100)
	switch {
	case r < 2:
		from := s.rng.IntN(interimKeys)
		changes = append(s.changes(2), delRange(interimKey(from), interimKey(from+s.rng.IntN(40))))
		changes = append(changes, s.changes(2)...)
	case r < 20:
		changes = s.changes(2 + s.rng.IntN(12))
	case r < 25:
		k := interimKey(s.rng.IntN(interimKeys - 100))
		delete(s.want, k)
		return s.db.PutTTL([]byte(k), []byte("soon gone"), time.Nanosecond)
	default:
		changes = s.changes(1)
	}
	s.want = s.want.with(changes)
	return commitChanges(s.db, changes, false)
}

func (s *interimStore) changes(n int) []change {
	out := make([]change, n)
	for i := range out {
		k := interimKey(s.rng.IntN(interimKeys - 100))
		if s.rng.IntN(4) == 0 {
			out[i] = del(k)
			continue
		}
		size := []int{0, 10, 100, 700}[s.rng.IntN(4)]
		if s.rng.IntN(40) == 0 {
			size = 20_000 // in runs
		}
		out[i] = put(k, fmt.Sprint(s.rng.Uint64())+strings.Repeat("v", size))
	}
	return out
}

// answers checks the results of point reads now, without waiting, and returns how many did not have
// to wait.
func (s *interimStore) answers() (answered int, err error) {
	for i := range interimKeys {
		k := interimKey(i)
		want, ok := s.want[k]
		got, err := s.db.getOnce(nil, []byte(k), true)
		switch {
		case err == errRegister:
			continue
		case ok != (err == nil) || ok && string(got) != want || !ok && err != ErrNotFound:
			return 0, fmt.Errorf("Get(%s) = %.20q, %v; want %.20q, %v", k, got, err, want, ok)
		}
		if _, err := s.db.getOnce(nil, []byte(k), false); err != errRegister && (err == nil) != ok {
			return 0, fmt.Errorf("Has(%s): %v; want %v", k, err, ok)
		}
		answered++
	}
	return answered, nil
}

// interimRounds drops and opens the store several times. It returns an error for each wrong result
// of a point read before, during and after the replay.
func (s *interimStore) interimRounds(rounds int) error {
	if err := s.open(); err != nil {
		return err
	}
	for round := range rounds {
		if err := s.work(700); err != nil {
			return err
		}
		if round%3 == 1 {
			if err := s.db.Checkpoint(context.Background()); err != nil {
				return err
			}
			if err := s.work(300); err != nil {
				return err
			}
		}
		if err := s.db.Sync(); err != nil {
			return err
		}
		abandon(s.db)
		if err := s.reopen(round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// reopen opens the store with its replay held, then again with the replay beside readers, and
// compares their results.
func (s *interimStore) reopen(round int) error {
	hold := make(chan struct{})
	s.opt.holdReplay, s.opt.ReadOnly = hold, round%4 == 2
	if err := s.open(); err != nil {
		return err
	}
	answered, err := s.answers()
	early := s.db.interim.Load() != nil
	close(hold)
	if err = firstErr(err, holds(s.db, s.want)); err == nil && !s.rotten {
		err = clean(s.db)
	}
	switch {
	case err != nil:
	case !early:
		err = errors.New("the replay was not beside its readers")
	case answered < interimKeys*3/4:
		err = fmt.Errorf("%d of %d reads were answered", answered, interimKeys)
	}
	abandon(s.db)
	s.opt.holdReplay, s.opt.ReadOnly = nil, false
	if err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	for err == nil && s.db.interim.Load() != nil {
		_, err = s.answers()
	}
	if err = firstErr(err, holds(s.db, s.want)); err == nil && !s.rotten {
		err = clean(s.db)
	}
	return err
}

// I17: reads that are answered before the replay ends return what they return after it, on every
// kind of device, and while frames are evicted all the time.
func TestI17_AnswersBeforeTheReplay(t *testing.T) {
	t.Parallel()
	rounds := effort.Pick(3, 2, 9, 9)
	for name, c := range map[string]struct {
		unmapped bool
		opt      Options
	}{
		"mapped":              {},
		"small":               {opt: Options{CacheBytes: MinCacheBytes}},
		"frames go":           {opt: Options{early: true}},
		"unmapped":            {unmapped: true},
		"unmapped, small":     {unmapped: true, opt: Options{CacheBytes: MinCacheBytes}},
		"unmapped, frames go": {unmapped: true, opt: Options{early: true}},
		"relaxed":             {opt: Options{Durability: Relaxed, groupBytes: 4096, noGroupTimer: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if raceBuild && c.opt.early {
				t.Skip("slow, and nothing more is shared")
			}
			dev := nvmap.Device(keptDevice{nvmap.NewMem(64 << 20)})
			if c.unmapped {
				dev = unmappedDevice{Device: dev}
			}
			s := newInterimStore(dev, c.opt)
			if err := s.interimRounds(rounds); err != nil {
				t.Fatal(err)
			}
			must(t, s.db.Close())
		})
	}
}

// TestI17_ReadsWithoutCandidates: reads that ignore the records to be replayed return old values,
// and the test above detects that.
func TestI17_ReadsWithoutCandidates(t *testing.T) {
	needsSwitches(t)
	s := newInterimStore(keptDevice{nvmap.NewMem(64 << 20)}, Options{broken: ruleI17})
	err := s.interimRounds(4)
	if err == nil {
		t.Fatal("nothing was wrong without the rule: the test does not test it")
	}
	t.Logf("without the rule: %v", err)
	abandon(s.db)
}

// TestTracesReplayedLate runs the traces on stores whose replay is beside their readers.
func TestTracesReplayedLate(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	for i, tr := range traces {
		c := newCrasher(1)
		c.images = []int{effort.Pick(3, 3, 12, 12)}
		c.opt.lateFrom = 1
		s, err := c.start()
		if err == nil {
			err = guarded(func() error { return tr(s) })
		}
		if err := firstErr(err, s.end()); err != nil {
			t.Errorf("trace %d: %v", i, err)
		}
	}
}

// TestInterimReplayFails: a leaf of the checkpoint that the replay needs has rotted. Until the
// replay finds it, reads that do not need the leaf are answered. Afterwards every call returns the
// error that the opening would have returned.
func TestInterimReplayFails(t *testing.T) {
	mem := nvmap.NewMem(64 << 20)
	s := newInterimStore(keptDevice{mem}, Options{})
	must(t, s.open())
	b := s.db.NewBatch()
	for i := range interimKeys {
		b.Put([]byte(interimKey(i)), []byte("1"))
	}
	must(t, s.db.Write(b))
	must(t, s.db.Checkpoint(context.Background()))
	last := []byte(interimKey(interimKeys - 1))
	cur := btree.NewCursor(&s.db.ix, false)
	if _, err := cur.Seek(s.db.ix.Root(), last); err != nil {
		t.Fatal(err)
	}
	leaf := cur.LeafPage()
	must(t, s.db.Put(last, []byte("2")))
	must(t, s.db.Put([]byte(interimKey(0)), []byte("2")))
	abandon(s.db)
	must(t, mem.Write(leaf.Off()+nvmap.PageBytes/2, []byte("rot")))

	hold := make(chan struct{})
	s.opt.holdReplay = hold
	must(t, s.open())
	for _, k := range []int{0, 1, interimKeys - 1} {
		want := "1"
		if k != 1 {
			want = "2"
		}
		if v, err := s.db.Get([]byte(interimKey(k))); err != nil || string(v) != want {
			t.Errorf("Get(%s) before the replay: %q, %v", interimKey(k), v, err)
		}
	}
	close(hold)
	<-s.db.late
	ctx := context.Background()
	_, err := s.db.Get([]byte(interimKey(1)))
	_, berr := s.db.Begin(false)
	_, werr := s.db.Begin(true)
	for what, err := range map[string]error{
		"Get": err, "Begin": berr, "Begin to write": werr, "Put": s.db.Put(last, nil), "Checkpoint": s.db.Checkpoint(ctx),
		"Compact": s.db.Compact(ctx), "Check": s.db.Check(ctx, func(CheckIssue) {}), "Sync": s.db.Sync(),
		"Scan": s.db.Scan(nil, nil, 5, func(_, _ []byte) bool { return true }),
	} {
		wantErr(t, what, err, ErrCorrupt)
	}
	must(t, s.db.Close())

	s.opt.lateFrom, s.opt.holdReplay = 1<<30, nil
	wantErr(t, "an opening that replays first", s.open(), ErrCorrupt)
}

// callsUnderWay returns the number of calls under way that may wait.
func callsUnderWay(db *DB) int64 {
	return db.calls.Count()
}

// TestInterimClose: Close waits for the replay, and so does a writer. Neither loses anything.
func TestInterimClose(t *testing.T) {
	s := newInterimStore(keptDevice{nvmap.NewMem(64 << 20)}, Options{})
	must(t, s.open())
	must(t, s.work(500))
	abandon(s.db)
	hold := make(chan struct{})
	s.opt.holdReplay = hold
	must(t, s.open())
	var written, closed atomic.Bool
	wrote := make(chan error)
	go func() {
		err := s.db.Put([]byte("new"), []byte("1"))
		written.Store(true)
		wrote <- err
	}()
	for callsUnderWay(s.db) == 0 { // until the writer is under way
		time.Sleep(time.Millisecond)
	}
	ended := make(chan error)
	go func() {
		err := s.db.Close()
		closed.Store(true)
		ended <- err
	}()
	for !s.db.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.db.Get([]byte("new")); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if written.Load() || closed.Load() {
		t.Error("a writer or Close did not wait for the replay")
	}
	close(hold)
	if err := <-wrote; err == nil {
		s.want["new"] = "1"
	} else if !errors.Is(err, ErrClosed) {
		t.Errorf("the writer that waited: %v", err)
	}
	must(t, <-ended)
	s.opt.holdReplay = nil
	must(t, s.open())
	must(t, holds(s.db, s.want))
	must(t, s.db.Close())
}

// TestInterimDecidesMaps: maps have rotted on a device that is not mapped, so the replay walks the
// whole index beside its readers.
func TestInterimDecidesMaps(t *testing.T) {
	mem := nvmap.NewMem(64 << 20)
	s := newInterimStore(unmappedDevice{Device: keptDevice{mem}}, Options{CacheBytes: MinCacheBytes})
	must(t, s.open())
	must(t, s.work(1500))
	must(t, s.db.Checkpoint(context.Background()))
	must(t, s.work(300))
	abandon(s.db)
	// The maps of the first group are behind a header and 64 descriptors of 64 bytes each, in the
	// first slab behind the superblocks; see docs/format.md.
	const slab, metadata = 16 << 10, 32 << 10
	maps := make([]byte, slab-65*64)
	must(t, mem.Read(metadata+65*64, maps))
	for i := range maps {
		if maps[i] != 0 {
			maps[i] ^= 1
		}
	}
	must(t, mem.Write(metadata+65*64, maps))
	s.rotten = true // Check reports it
	if err := s.reopen(0); err != nil {
		t.Fatal(err)
	}
	must(t, s.db.Close())
	must(t, s.open())
	must(t, clean(s.db)) // the last checkpoint wrote all maps
	must(t, s.db.Close())
}
