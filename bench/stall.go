package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// StallWorkload names the measurement of stalls: random puts and deletes for a while, each timed,
// beside a reader and a timer, while the engine does its background work. The sizes of values
// change over time, so that there is space to reclaim.
const StallWorkload = "stall"

const (
	stallStretches   = 8  // parts of the time in which values are small and large in turn
	stallDeleteEvery = 16 // one write in stallDeleteEvery is a delete
	stallValueMin    = 16 // bytes: the head of a value
	stallBatch       = 1000
	stallReadPause   = 100 * time.Microsecond // so that the reader leaves CPU time to the engine
	stallTick        = time.Millisecond       // of the timer
)

// StallPlan holds the parameters of the measurement.
type StallPlan struct {
	Engines    []string
	Records    uint64
	ValueBytes int // of the largest values
	Threads    int // number of writers
	Time       time.Duration
	Seed       uint64
	Relaxed    bool
}

// DefaultStallPlan returns the plan of the command line without flags.
func DefaultStallPlan() StallPlan {
	return StallPlan{Engines: compat.Names(), Records: 200_000, ValueBytes: 1000, Threads: 1, Time: time.Minute, Seed: 1}
}

// StallJob holds the instructions for a session that measures stalls.
type StallJob struct {
	Records    uint64        `json:"records"`
	ValueBytes int           `json:"value_bytes"`
	Time       time.Duration `json:"time"` // nanoseconds
}

// Validate returns an error if the plan cannot be carried out.
func (p StallPlan) Validate() error {
	switch {
	case len(p.Engines) == 0:
		return errors.New("no engines")
	case p.Records == 0:
		return errors.New("no records")
	case p.ValueBytes < 4*stallValueMin:
		return fmt.Errorf("values of %d bytes: want %d or more, so that there are small and large ones", p.ValueBytes, 4*stallValueMin)
	case p.Threads < 1 || uint64(p.Threads) > p.Records:
		return fmt.Errorf("%d threads: want 1 or more, and a record for each", p.Threads)
	case p.Time <= 0:
		return fmt.Errorf("a time of %v", p.Time)
	}
	for _, engine := range p.Engines {
		if err := CheckEngine(engine); err != nil {
			return err
		}
	}
	return nil
}

// Tasks returns a task for each engine.
func (p StallPlan) Tasks() []Task {
	var tasks []Task
	for _, engine := range p.Engines {
		tasks = append(tasks, Task{Name: engine + " " + StallWorkload, Jobs: []Job{{
			Engine: engine, Relaxed: p.Relaxed, Seed: p.Seed, Threads: p.Threads,
			Stall: &StallJob{p.Records, p.ValueBytes, p.Time},
		}}})
	}
	return tasks
}

// stallBench measures one engine.
type stallBench struct {
	job    *Job
	emit   func(event)
	engine compat.Engine
	limit  time.Duration

	versions []uint64 // newest version of each record, 0 if deleted; a record belongs to one writer
	ended    chan struct{}
	failed   atomic.Bool

	writes []latencies // of each writer
	reads  latencies
	late   latencies // of the timer, as reads
	peak   int64     // anonymous memory, bytes
}

// runStall measures one engine.
func runStall(ctx context.Context, job *Job, emit func(event)) (err error) {
	engine, err := openEngine(job.Engine, job.Dir, job.Relaxed)
	if err != nil {
		return fmt.Errorf("open %s in %s: %w", job.Engine, job.Dir, err)
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	b := &stallBench{
		job: job, emit: emit, engine: engine, limit: job.Stall.Time, versions: make([]uint64, job.Stall.Records),
		ended: make(chan struct{}), writes: make([]latencies, max(job.Threads, 1)),
	}
	run, err := b.run(ctx)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", job.Engine, StallWorkload, err)
	}
	emit(event{Run: &run})
	return nil
}

func (b *stallBench) run(ctx context.Context) (Run, error) {
	own := rssAnon()
	if err := b.load(ctx); err != nil {
		return Run{}, err
	}
	if err := b.engine.Flush(); err != nil {
		return Run{}, err
	}
	runtime.GC() // the writers do not pay for the load's garbage
	before, house, load := b.engine.Stats(), housekeeping(b.engine), startLoad()
	start := time.Now()
	if err := b.race(ctx, start); err != nil {
		return Run{}, err
	}
	r := b.result(time.Since(start))
	load.into(&r)
	stats := b.engine.Stats().Sub(before)
	r.UserBytes, r.MediaBytes, r.Fences = stats.UserBytes, stats.MediaBytes, stats.Fences
	r.WriteAmp = stats.WriteAmplification()
	r.Housekeeping = since(house, housekeeping(b.engine))
	r.RSSAnonBytes = max(0, b.peak-own)
	if b.job.Engine != NoopEngine {
		if err := b.verify(&r); err != nil {
			return Run{}, err
		}
	}
	var err error
	r.DiskBytes, err = b.engine.SizeOnDisk()
	return r, err
}

// load stores every record once, in batches.
func (b *stallBench) load(ctx context.Context) error {
	rng := b.random(0)
	ops := make([]compat.Op, 0, stallBatch)
	for i := range b.job.Stall.Records {
		b.versions[i] = 1
		ops = append(ops, compat.Op{Key: stallKey(nil, i), Value: appendStallValue(nil, i, 1, b.size(rng, 0))})
		if len(ops) < stallBatch && i+1 < b.job.Stall.Records {
			continue
		}
		b.emit(event{Progress: &Progress{b.job.Engine, "load", i, b.job.Stall.Records}})
		if err := errors.Join(b.engine.WriteBatch(ops), context.Cause(ctx)); err != nil {
			return err
		}
		ops = ops[:0]
	}
	return nil
}

func (b *stallBench) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(b.job.Seed, uint64(stream)))
}

// size returns a random size for a value that is written at the given time since the start.
func (b *stallBench) size(rng *rand.Rand, at time.Duration) int {
	half := b.job.Stall.ValueBytes / 2
	if int(at*stallStretches/b.limit)%2 == 0 {
		return stallValueMin + rng.IntN(half-stallValueMin)
	}
	return half + rng.IntN(half+1)
}

// race runs writers, the reader and the timer until the time is up or one of them fails.
func (b *stallBench) race(ctx context.Context, start time.Time) error {
	var writers, others sync.WaitGroup
	errs := make([]error, len(b.writes)+1)
	fail := func(i int, err error) {
		if errs[i] = err; err != nil {
			b.failed.Store(true)
		}
	}
	for t := range b.writes {
		writers.Go(func() { fail(t, b.write(ctx, t, start)) })
	}
	others.Go(func() { fail(len(b.writes), b.read()) })
	others.Go(func() { b.tick(start) })
	writers.Wait()
	close(b.ended)
	others.Wait()
	return errors.Join(errs...)
}

// write puts and deletes its own records at random. It makes a value before it reads the clock for
// the put.
func (b *stallBench) write(ctx context.Context, t int, start time.Time) error {
	rng, lat := b.random(t+1), &b.writes[t]
	threads := uint64(len(b.writes))
	mine := (b.job.Stall.Records - uint64(t) + threads - 1) / threads
	var key, value []byte
	at := time.Since(start)
	for n := 0; at < b.limit && !b.failed.Load(); n++ {
		if n%publishEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		record := rng.Uint64N(mine)*threads + uint64(t)
		key = stallKey(key[:0], record)
		kind, version := ycsb.Update, uint64(n+2)
		if rng.IntN(stallDeleteEvery) == 0 {
			kind, version = ycsb.Delete, 0
		} else {
			value = appendStallValue(value[:0], record, version, b.size(rng, at))
		}
		began := time.Since(start)
		var err error
		if kind == ycsb.Delete {
			err = b.engine.Delete(key)
		} else {
			err = b.engine.Put(key, value)
		}
		if err != nil {
			return fmt.Errorf("%v of key %q: %w", kind, key, err)
		}
		b.versions[record] = version
		at = time.Since(start)
		lat.record(kind, at-began)
	}
	return nil
}

// read gets records at random. A deleted record may be absent. A value must be whole.
func (b *stallBench) read() error {
	rng := b.random(len(b.writes) + 1)
	var key, value []byte
	for !b.over() && !b.failed.Load() {
		record := rng.Uint64N(b.job.Stall.Records)
		key = stallKey(key[:0], record)
		began := time.Now()
		got, err := b.engine.Get(value[:0], key)
		b.reads.record(ycsb.Read, time.Since(began))
		switch {
		case err == nil:
			value = got
			if _, err := checkStallValue(value, record); err != nil && b.job.Engine != NoopEngine {
				return fmt.Errorf("read of key %q: %w", key, err)
			}
		case !errors.Is(err, errNotFound):
			return fmt.Errorf("read of key %q: %w", key, err)
		}
		time.Sleep(stallReadPause)
	}
	return nil
}

func (b *stallBench) over() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

// tick measures how late a goroutine continues that only sleeps. A put may take this long because
// of the machine and not because of the engine.
func (b *stallBench) tick(start time.Time) {
	const ticks = int(progressEvery / stallTick)
	for n := 0; !b.over(); n++ {
		began := time.Now()
		time.Sleep(stallTick)
		b.late.record(ycsb.Read, time.Since(began)-stallTick)
		if n%ticks == 0 {
			b.peak = max(b.peak, rssAnon())
			b.emit(event{Progress: &Progress{b.job.Engine, StallWorkload, uint64(time.Since(start)), uint64(b.limit)}})
		}
	}
}

// These are the kinds of a run that measures stalls.
const (
	stallPut    = "put"
	stallDelete = "delete"
	stallRead   = "read"
	stallTimer  = "timer"
)

// result returns the run. Its main figures are those of the puts.
func (b *stallBench) result(took time.Duration) Run {
	var writes latencies
	for i := range b.writes {
		writes.merge(&b.writes[i])
	}
	puts := latencies{ycsb.Update: writes[ycsb.Update]}
	r := Run{
		Engine: b.job.Engine, Workload: StallWorkload, Phase: StallWorkload, Threads: len(b.writes), Records: b.job.Stall.Records,
		ValueBytes: b.job.Stall.ValueBytes, Seconds: took.Seconds(), Relaxed: b.job.Relaxed,
	}
	puts.into(&r)
	r.Kinds = map[string]KindRun{
		stallPut: kindRun(&puts, ycsb.Update), stallDelete: kindRun(&writes, ycsb.Delete),
		stallRead: kindRun(&b.reads, ycsb.Read), stallTimer: kindRun(&b.late, ycsb.Read),
	}
	r.Ops = r.Kinds[stallPut].Ops
	r.OpsPerS = float64(r.Ops) / took.Seconds()
	return r
}

// verify compares every record of the engine with the last write.
func (b *stallBench) verify(r *Run) error {
	found := slices.Repeat([]bool{false}, len(b.versions))
	var wrong error
	err := b.engine.Scan(nil, -1, func(key, value []byte) bool {
		record, err := stallRecord(key)
		if err == nil && record >= uint64(len(found)) {
			err = errors.New("nobody wrote it")
		}
		if err == nil {
			found[record] = true
			var version uint64
			if version, err = checkStallValue(value, record); err == nil && version != b.versions[record] {
				err = fmt.Errorf("holds version %d, and %d was written last", version, b.versions[record])
			}
		}
		if err != nil {
			wrong = fmt.Errorf("key %q: %w", key, err)
		}
		r.Checked++
		return wrong == nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	for record, version := range b.versions {
		if !found[record] && version != 0 {
			return fmt.Errorf("key %q is gone, and version %d was written last", stallKey(nil, uint64(record)), version)
		}
	}
	return nil
}

func stallKey(dst []byte, record uint64) []byte { return fmt.Appendf(dst, "stall/%012d", record) }

func stallRecord(key []byte) (record uint64, err error) {
	if _, err := fmt.Sscanf(string(key), "stall/%d", &record); err != nil {
		return 0, fmt.Errorf("nobody wrote it: %w", err)
	}
	return record, nil
}

// appendStallValue appends a value of n bytes: record, version, and words that
// follow from both.
func appendStallValue(dst []byte, record, version uint64, n int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, record)
	dst = binary.LittleEndian.AppendUint64(dst, version)
	word := stallWord(record, version)
	for n -= stallValueMin; n >= 8; n -= 8 {
		dst = binary.LittleEndian.AppendUint64(dst, word)
		word = word*6364136223846793005 + 1442695040888963407
	}
	for range n {
		dst = append(dst, byte(word))
	}
	return dst
}

func stallWord(record, version uint64) uint64 { return record*0x9e3779b97f4a7c15 ^ version }

// checkStallValue returns the version of a value, or an error if it is not whole.
func checkStallValue(value []byte, record uint64) (version uint64, err error) {
	if len(value) < stallValueMin || binary.LittleEndian.Uint64(value) != record {
		return 0, fmt.Errorf("a value of %d bytes that is not that of record %d", len(value), record)
	}
	version = binary.LittleEndian.Uint64(value[8:])
	word := stallWord(record, version)
	rest := value[stallValueMin:]
	for ; len(rest) >= 8; rest = rest[8:] {
		if binary.LittleEndian.Uint64(rest) != word {
			return 0, fmt.Errorf("version %d of record %d differs from the bytes written", version, record)
		}
		word = word*6364136223846793005 + 1442695040888963407
	}
	for _, c := range rest {
		if c != byte(word) {
			return 0, fmt.Errorf("the end of version %d of record %d differs from the bytes written", version, record)
		}
	}
	return version, nil
}

// housekeeping returns the engine's counters of background work.
func housekeeping(e compat.Engine) []compat.Counter {
	if h, ok := e.(compat.Housekeeper); ok {
		return h.Housekeeping()
	}
	return nil
}

// since returns the counters at the end minus those at the beginning.
func since(before, after []compat.Counter) []compat.Counter {
	for i := range after {
		after[i].Value -= before[i].Value
	}
	return after
}
