package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// phase is one measured phase: streams, one goroutine each, against one engine.
type phase struct {
	engine   compat.Engine
	streams  []*ycsb.Stream
	limit    time.Duration // 0 = none
	warmup   time.Duration
	target   float64 // operations per second over all streams; 0 = no limit
	batch    int     // operations per atomic batch; 0 = no batches
	progress func(done uint64)
	ownBytes int64 // anonymous memory of the benchmark itself

	workers []*worker
	stop    atomic.Bool
}

// progressEvery is the interval of progress reports and memory samples. Both take microseconds of
// one core.
const progressEvery = 100 * time.Millisecond

// run runs the phase and returns a Run, without its name and the figures of the medium. If the
// context ends, the phase stops with an error.
func (p *phase) run(ctx context.Context) (Run, error) {
	p.prepare()
	if err := p.each(func(w *worker) error { return w.warmUp(p.warmup) }); err != nil {
		return Run{}, err
	}
	warm := p.executed()
	runtime.GC() // no phase pays for the garbage of another
	before, load := p.engine.Stats(), startLoad()
	peak := p.watch(ctx)
	start := time.Now()
	p.pace(start)
	err := p.each(func(w *worker) error { return p.work(w, start) })
	elapsed := p.elapsed()
	r := Run{
		Threads: len(p.streams), Seconds: elapsed.Seconds(),
		TargetPerS: p.target, RSSAnonBytes: max(0, peak()-p.ownBytes-p.sampleBytes()),
	}
	load.into(&r)
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		return Run{}, err
	}
	p.summarize(&r, warm, elapsed)
	stats := p.engine.Stats().Sub(before)
	r.UserBytes, r.MediaBytes, r.Fences = stats.UserBytes, stats.MediaBytes, stats.Fences
	return r, nil
}

func (p *phase) prepare() {
	for _, s := range p.streams {
		w := &worker{engine: p.engine, stream: s, overTime: newSeries(), stop: &p.stop}
		w.value = make([]byte, 0, s.Workload.ValueBytes())
		w.patched = make([]byte, 0, s.Workload.ValueBytes())
		checks := 0
		for _, op := range s.Ops {
			if op.Check {
				checks++
			}
		}
		w.samples = newSamples(s.Workload.ValueBytes(), checks)
		p.workers = append(p.workers, w)
	}
}

func (p *phase) work(w *worker, start time.Time) error {
	if p.batch > 0 {
		return w.runBatches(start, p.limit, p.batch)
	}
	return w.run(start, p.limit, len(w.stream.Ops))
}

func (w *worker) warmUp(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return w.warm(d)
}

// each runs f for every worker at once and returns the first error. It then asks the other workers
// to stop.
func (p *phase) each(f func(*worker) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(p.workers))
	for i, w := range p.workers {
		wg.Go(func() {
			if errs[i] = f(w); errs[i] != nil {
				p.stop.Store(true)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *phase) pace(start time.Time) {
	if p.target <= 0 {
		return
	}
	for i, w := range p.workers {
		w.pace = newPacer(start, p.target, i, len(p.workers))
		w.pace.first = w.executed
	}
}

// watch reports progress, samples memory and passes a cancellation on until the returned function
// is called, which returns the peak.
func (p *phase) watch(ctx context.Context) func() int64 {
	ended, idle := make(chan struct{}), make(chan struct{})
	peak := rssAnon()
	go func() {
		defer close(idle)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ctx.Done():
				p.stop.Store(true)
				return
			case <-tick.C:
				peak = max(peak, rssAnon())
				p.report()
			}
		}
	}()
	return func() int64 {
		close(ended)
		<-idle
		return max(peak, rssAnon())
	}
}

func (p *phase) report() {
	if p.progress == nil {
		return
	}
	var done uint64
	for _, w := range p.workers {
		done += w.done.Load()
	}
	p.progress(done)
}

func (p *phase) executed() (n uint64) {
	for _, w := range p.workers {
		n += uint64(w.executed)
	}
	return n
}

// elapsed returns the time of the slowest worker.
func (p *phase) elapsed() (d time.Duration) {
	for _, w := range p.workers {
		d = max(d, w.ended)
	}
	return d
}

func (p *phase) summarize(r *Run, warm uint64, elapsed time.Duration) {
	var all, service latencies
	total := newSeries()
	var planned uint64
	for _, w := range p.workers {
		all.merge(&w.latency)
		service.merge(&w.service)
		total.merge(w.overTime)
		r.Entries += w.entries
		r.ReadBytes += w.readBytes
		planned += uint64(len(w.stream.Ops))
	}
	r.Ops = p.executed() - warm
	r.Capped = p.executed() < planned
	if elapsed > 0 {
		r.OpsPerS = float64(r.Ops) / elapsed.Seconds()
	}
	all.into(r)
	r.Series = total.upTo(elapsed)
	if p.target > 0 {
		_, r.ServiceP99, _, _ = figures(service.all())
	}
}

// sampleBytes returns the memory of the values kept for checking.
func (p *phase) sampleBytes() (n int64) {
	for _, w := range p.workers {
		n += int64(len(w.samples.bytes))
	}
	return n
}

// streamBytes returns the memory of the streams.
func (p *phase) streamBytes() (n int64) {
	for _, s := range p.streams {
		n += s.Bytes()
	}
	return n
}

// harnessOps is the number of operations with which the cost of the loop is measured.
const harnessOps = 50_000

// harness returns the cost of the loop around an engine per operation, in nanoseconds. It runs the
// same streams against an engine that does nothing.
func harness(ctx context.Context, streams []*ycsb.Stream) (float64, error) {
	s := streams[0]
	if len(s.Ops) == 0 {
		return 0, nil
	}
	short := *s
	short.Ops = s.Ops[:min(len(s.Ops), harnessOps)]
	nothing := &noop{value: s.Workload.AppendValue(nil, 0, ycsb.MakeVersion(1, 1, 0)), found: short.Ops[0].Kind != ycsb.Miss}
	r, err := (&phase{engine: nothing, streams: []*ycsb.Stream{&short}}).run(ctx)
	if err != nil || r.Ops == 0 {
		return 0, fmt.Errorf("bench: measuring the loop itself: %w", errors.Join(err, context.Cause(ctx)))
	}
	return r.Seconds * 1e9 / float64(r.Ops), nil
}
