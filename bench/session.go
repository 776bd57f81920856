package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// session carries out one job in this process.
type session struct {
	job    *Job
	emit   func(event)
	base   *ycsb.Workload
	engine compat.Engine

	opened   time.Duration // time of opening, including the first answer of an existing store
	phase    int           // number of the next phase
	next     uint64        // number of the first record that was not inserted yet
	live     uint64        // records in the store
	deleted  bool          // records of the load phase may be gone
	recBytes float64       // mean bytes of key and value
	ledger   *ledger
	ownBytes int64 // anonymous memory before the engine was opened
}

// runJob carries out job and reports with emit.
func runJob(ctx context.Context, job *Job, emit func(event)) error {
	return runJobOn(ctx, job, emit, func() (compat.Engine, error) { return openEngine(job.Engine, job.Dir, job.Relaxed) })
}

// runJobOn is runJob with an engine that open opens.
func runJobOn(ctx context.Context, job *Job, emit func(event), open func() (compat.Engine, error)) (err error) {
	base, err := job.workload(Step{})
	if err != nil {
		return err
	}
	s := &session{job: job, emit: emit, base: base, phase: job.FirstPhase, ledger: newLedger(base.InsertStart + base.InsertCount)}
	s.next = base.InsertStart + base.InsertCount
	s.measureRecords()
	if job.Existing {
		s.live = base.InsertCount
		for i := range s.ledger.unsure {
			s.ledger.unsure[i] = true // an earlier session wrote them
		}
	}
	debug.FreeOSMemory()
	s.ownBytes = rssAnon()
	if err := s.open(open); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range job.Steps {
		if err := s.step(ctx, step); err != nil {
			return fmt.Errorf("%s, %s: %w", job.Engine, step.Name, err)
		}
	}
	return nil
}

// measureRecords finds the mean size of a record from a sample.
func (s *session) measureRecords() {
	const sample = 1000
	var key, value []byte
	total := 0
	for i := range uint64(sample) {
		key = s.base.AppendKey(key[:0], i)
		value = s.base.AppendValue(value[:0], i, ycsb.MakeVersion(1, 1, i))
		total += len(key) + len(value)
	}
	s.recBytes = float64(total) / sample
}

// open opens the store. It reads a record of an existing store, because an engine that recovers at
// the first read has not really opened before.
func (s *session) open(open func() (compat.Engine, error)) error {
	start := time.Now()
	engine, err := open()
	if err != nil {
		return fmt.Errorf("open %s in %s: %w", s.job.Engine, s.job.Dir, err)
	}
	s.engine = engine
	if s.job.Existing {
		key := s.base.AppendKey(nil, s.base.InsertStart)
		if _, err := engine.Get(nil, key); err != nil {
			return fmt.Errorf("first read of a store that was there (%s, key %q): %w", s.job.Engine, key, err)
		}
	}
	s.opened = time.Since(start)
	return nil
}

func (s *session) close() error {
	if err := s.engine.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.job.Engine, err)
	}
	return nil
}

func (s *session) step(ctx context.Context, step Step) error {
	switch step.Kind {
	case StepLoad:
		return s.load(ctx, step)
	case StepRun, StepMiss, StepBatch:
		return s.workloadStep(ctx, step)
	case StepScan:
		return s.scanAll(ctx, step)
	case StepDelete:
		return s.deleteStep(ctx, step)
	case StepReopen:
		return s.reportOpen(step)
	case StepAcked:
		return s.verifyAcked(step)
	case StepDoomed:
		return s.writeUntilKilled(ctx, step)
	}
	return fmt.Errorf("bench: no such kind of step: %q", step.Kind)
}

// load inserts the records.
func (s *session) load(ctx context.Context, step Step) error {
	w, err := s.job.workload(step)
	if err != nil {
		return err
	}
	streams, err := s.streams(w, func(sp ycsb.Spec) (*ycsb.Stream, error) { return w.LoadStream(sp) })
	defer closeStreams(streams)
	if err != nil {
		return err
	}
	p := s.newPhase(step, streams)
	p.limit, p.target = s.job.LoadLimit, 0
	r, err := s.measure(ctx, p)
	if err != nil {
		return err
	}
	if err := s.rest(ctx, p); err != nil {
		return err
	}
	s.live += w.InsertCount
	r.Phase, r.Records = "load", s.base.InsertCount
	if r.Capped {
		r.Note = restNote
	}
	return s.finish(step, p, r)
}

const restNote = "the clock ended it; the rest was done in batches and is in none of the figures but disk use"

// rest loads in batches the records that were left when the time limit ended the load.
func (s *session) rest(ctx context.Context, p *phase) error {
	const batch = 1000
	for _, w := range p.workers {
		w.stop.Store(false)
		if err := w.runBatches(time.Now(), 0, batch); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// workloadStep runs the step's workload.
func (s *session) workloadStep(ctx context.Context, step Step) error {
	w, err := s.job.workload(step)
	if err != nil {
		return err
	}
	streams, err := s.streams(w, func(sp ycsb.Spec) (*ycsb.Stream, error) {
		sp.Misses = step.Kind == StepMiss
		return w.RunStream(sp)
	})
	defer closeStreams(streams)
	if err != nil {
		return err
	}
	p := s.newPhase(step, streams)
	p.batch, p.target, p.limit = step.Batch, w.Target, s.job.PhaseLimit
	if p.batch == 0 {
		p.warmup = s.job.Warmup
	}
	if w.MaxSeconds > 0 {
		p.limit = time.Duration(w.MaxSeconds * float64(time.Second))
	}
	r, err := s.measure(ctx, p)
	if err != nil {
		return err
	}
	r.Phase, r.Records = "run", s.base.InsertCount
	s.live += r.Kinds[ycsb.Insert.String()].Ops
	return s.finish(step, p, r)
}

// deleteStep deletes every Stride-th record of the load phase, and gives the engine some time to
// give the space back.
func (s *session) deleteStep(ctx context.Context, step Step) error {
	w := s.base
	streams, err := s.streams(w, func(sp ycsb.Spec) (*ycsb.Stream, error) {
		return w.SweepStream(sp, ycsb.Delete, w.InsertStart+step.Offset, w.InsertStart+w.InsertCount, max(1, step.Stride))
	})
	defer closeStreams(streams)
	if err != nil {
		return err
	}
	p := s.newPhase(step, streams)
	p.limit = s.job.PhaseLimit
	r, err := s.measure(ctx, p)
	if err != nil {
		return err
	}
	if err := s.rest(ctx, p); err != nil {
		return err
	}
	r.Phase, r.Records = "run", s.base.InsertCount
	if r.Capped {
		r.Note = restNote
	}
	s.live, s.deleted = s.live-p.executed(), true
	return s.finish(step, p, r)
}

// streams generates one stream for each thread.
func (s *session) streams(w *ycsb.Workload, generate func(ycsb.Spec) (*ycsb.Stream, error)) ([]*ycsb.Stream, error) {
	var streams []*ycsb.Stream
	threads := w.ThreadCount
	for t := range threads {
		ops := w.OperationCount / uint64(threads)
		if uint64(t) < w.OperationCount%uint64(threads) {
			ops++
		}
		stream, err := generate(ycsb.Spec{
			Seed: s.job.Seed, Phase: s.phase, Thread: t + 1, Threads: threads,
			FirstNew: s.next, CheckEvery: s.job.CheckEvery, Ops: ops,
		})
		if err != nil {
			return streams, err
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

func closeStreams(streams []*ycsb.Stream) {
	for _, s := range streams {
		s.Close()
	}
}

func (s *session) newPhase(step Step, streams []*ycsb.Stream) *phase {
	p := &phase{engine: s.engine, streams: streams}
	p.ownBytes = s.ownBytes + p.streamBytes()
	var total uint64
	for _, st := range streams {
		total += uint64(len(st.Ops))
	}
	p.progress = func(done uint64) {
		s.emit(event{Progress: &Progress{Engine: s.job.Engine, Step: step.Name, Done: done, Total: total}})
	}
	p.progress(0)
	return p
}

// measure runs the phase and adds the cost of the loop.
func (s *session) measure(ctx context.Context, p *phase) (Run, error) {
	var own float64
	if p.batch == 0 {
		var err error
		if own, err = harness(ctx, p.streams); err != nil {
			return Run{}, err
		}
	}
	r, err := p.run(ctx)
	r.HarnessNs = own
	return r, err
}

// finish verifies the reads of the phase, completes its writes and reports it.
func (s *session) finish(step Step, p *phase, r Run) error {
	if s.job.Engine != NoopEngine && !s.deleted {
		var err error
		v := verifier{before: s.ledger, phase: s.phase, workers: p.workers}
		if r.Checked, err = v.check(); err != nil {
			return err
		}
	}
	for _, w := range p.workers {
		s.ledger.apply(w.stream, w.executed)
		for _, op := range w.stream.Ops {
			s.next = max(s.next, op.Record+1)
		}
	}
	s.phase++
	if r.UserBytes > 0 {
		if err := s.settle(&r); err != nil {
			return err
		}
	}
	return s.report(step, r)
}

// settle makes the engine complete the pending work of the phase, and adds its bytes and fences to
// the phase.
func (s *session) settle(r *Run) error {
	before, start := s.engine.Stats(), time.Now()
	if err := s.engine.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	r.FlushSeconds = time.Since(start).Seconds()
	owed := s.engine.Stats().Sub(before)
	r.MediaBytes += owed.MediaBytes
	r.Fences += owed.Fences
	r.WriteAmp = float64(r.MediaBytes) / float64(r.UserBytes)
	return nil
}

// report completes a run with the session's data and passes it on.
func (s *session) report(step Step, r Run) error {
	disk, err := s.diskBytes(step.Kind == StepDelete)
	if err != nil {
		return fmt.Errorf("size on disk: %w", err)
	}
	r.DiskBytes = disk
	if s.live > 0 {
		r.SpaceAmp = float64(disk) / (float64(s.live) * s.recBytes)
	}
	r.Engine, r.Workload, r.Relaxed = s.job.Engine, step.Name, s.job.Relaxed
	r.ValueBytes = s.base.Fields * s.base.FieldBytes
	s.emit(event{Run: &r})
	return nil
}

// diskBytes returns the size of the store on disk. After deletes it returns the least size within
// the time allowed.
func (s *session) diskBytes(shrinking bool) (int64, error) {
	least, err := s.engine.SizeOnDisk()
	for start := time.Now(); err == nil && shrinking && least > 0 && time.Since(start) < s.job.ShrinkWait; {
		time.Sleep(s.job.ShrinkWait / 20)
		var now int64
		now, err = s.engine.SizeOnDisk()
		least = min(least, now)
	}
	return least, err
}
