package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// worker runs one stream against an engine. One goroutine uses it; only done and stop are shared.
type worker struct {
	engine compat.Engine
	stream *ycsb.Stream
	pace   *pacer // nil: no target rate

	value, patched []byte
	keys           [][]byte // of a batch of reads
	samples        samples

	latency, service latencies
	overTime         *series
	entries          uint64
	readBytes        uint64
	sum              uint64 // sum of all bytes read, so that the reads are not optimized away

	executed int           // operations finished, including warm-up
	ended    time.Duration // when the last one finished
	done     atomic.Uint64 // copy of executed for the progress display, updated now and then
	stop     *atomic.Bool
}

// publishEvery is the number of operations between updates of done.
const publishEvery = 256

// run does operations up to number end, until limit has passed (0 = none) or stop is set. Each
// operation costs one reading of the clock and lasts from the previous reading to the next.
func (w *worker) run(start time.Time, limit time.Duration, end int) error {
	last := time.Since(start)
	base := last
	for i := w.executed; i < end; i++ {
		began := last
		if w.pace != nil {
			last = w.pace.wait(i)
			began = time.Since(start)
		}
		kind, err := w.do(i)
		if err != nil {
			return fmt.Errorf("operation %d of thread %d (%v of key %q): %w", i, w.stream.Thread, kind, w.stream.Key(i), err)
		}
		now := time.Since(start)
		w.latency.record(kind, now-last)
		if w.pace != nil {
			w.service.record(kind, now-began)
		}
		w.overTime.add(now)
		last = now
		w.executed = i + 1
		if i%publishEvery == 0 {
			w.done.Store(uint64(w.executed))
		}
		if w.stop.Load() || limit > 0 && now-base >= limit {
			break
		}
	}
	w.ended = last
	w.done.Store(uint64(w.executed))
	return nil
}

// warmShare is the divisor for the part of a stream that a warm-up may use.
const warmShare = 10

// warm does operations for d, or for a share of the stream, without measuring them.
func (w *worker) warm(d time.Duration) error {
	err := w.run(time.Now(), d, len(w.stream.Ops)/warmShare)
	w.latency, w.service, w.overTime = latencies{}, latencies{}, newSeries()
	w.entries, w.readBytes = 0, 0
	return err
}

func (w *worker) do(i int) (ycsb.Kind, error) {
	op := &w.stream.Ops[i]
	key := w.stream.Key(i)
	switch op.Kind {
	case ycsb.Read:
		if n := w.stream.Workload.ReadBatch; n > 1 {
			return op.Kind, w.readMany(i, n)
		}
		return op.Kind, w.read(op, i, key)
	case ycsb.Miss:
		return op.Kind, w.miss(key)
	case ycsb.Insert:
		return op.Kind, w.put(op, i, key)
	case ycsb.Update:
		return op.Kind, w.update(op, i, key)
	case ycsb.ReadModifyWrite:
		if err := w.read(op, i, key); err != nil {
			return op.Kind, err
		}
		return op.Kind, w.rewrite(op, i, key)
	case ycsb.Scan:
		return op.Kind, w.scan(key, int(op.Arg))
	case ycsb.Delete:
		return op.Kind, w.engine.Delete(key)
	}
	return op.Kind, fmt.Errorf("bench: no such kind of operation: %d", op.Kind)
}

// read leaves the value in w.value and sums all of it.
func (w *worker) read(op *ycsb.Op, i int, key []byte) error {
	value, err := w.engine.Get(w.value[:0], key)
	if err != nil {
		return err
	}
	w.value = value
	w.readBytes += uint64(len(value))
	w.sum += sumBytes(value)
	if op.Check {
		w.samples.keep(i, value)
	}
	return nil
}

// readMany looks up the keys of n reads together, of operation i and those that follow it in the
// stream, which begins again behind its end.
func (w *worker) readMany(i, n int) error {
	w.keys = w.keys[:0]
	for j := i; len(w.keys) < n; j = (j + 1) % len(w.stream.Ops) {
		if w.stream.Ops[j].Kind == ycsb.Read {
			w.keys = append(w.keys, w.stream.Key(j))
		}
	}
	var failed error
	err := compat.GetMany(w.engine, w.keys, func(_ int, value []byte, err error) bool {
		w.entries++
		w.readBytes += uint64(len(value))
		w.sum += sumBytes(value)
		failed = err
		return err == nil
	})
	return errors.Join(err, failed)
}

func (w *worker) miss(key []byte) error {
	_, err := w.engine.Get(w.value[:0], key)
	if err == nil {
		return errors.New("found, but nobody wrote it")
	}
	if !errors.Is(err, errNotFound) {
		return err
	}
	return nil
}

func (w *worker) put(op *ycsb.Op, i int, key []byte) error {
	w.value = w.stream.Workload.AppendValue(w.value[:0], op.Record, w.stream.Version(i))
	return w.engine.Put(key, w.value)
}

// update writes the whole value if that needs no read, else one field.
func (w *worker) update(op *ycsb.Op, i int, key []byte) error {
	if wl := w.stream.Workload; wl.WriteAllFields || wl.Fields == 1 {
		return w.put(op, i, key)
	}
	value, err := w.engine.Get(w.value[:0], key)
	if err != nil {
		return err
	}
	w.value = value
	return w.rewrite(op, i, key)
}

// rewrite stores the value that was just read, with the change of the operation.
func (w *worker) rewrite(op *ycsb.Op, i int, key []byte) error {
	wl := w.stream.Workload
	if wl.WriteAllFields || wl.Fields == 1 {
		return w.put(op, i, key)
	}
	patched, err := wl.PatchValue(w.patched[:0], w.value, op.Record, w.stream.Version(i), int(op.Arg))
	if err != nil {
		return err
	}
	w.patched = patched
	return w.engine.Put(key, patched)
}

func (w *worker) scan(start []byte, n int) error {
	if w.stream.Workload.ScanSnapshot {
		return w.scanSnapshot(start, n)
	}
	return w.engine.Scan(start, n, w.visit)
}

// scanSnapshot is scan as most programs do it: in a read transaction of its own.
func (w *worker) scanSnapshot(start []byte, n int) error {
	r, err := w.engine.Snapshot()
	if err != nil {
		return err
	}
	return errors.Join(r.Scan(start, n, w.visit), r.Close())
}

func (w *worker) visit(key, value []byte) bool {
	w.entries++
	w.readBytes += uint64(len(key) + len(value))
	w.sum += sumBytes(key) + sumBytes(value)
	return true
}

// sumBytes reads every byte of p, eight at a time.
func sumBytes(p []byte) (sum uint64) {
	for ; len(p) >= 8; p = p[8:] {
		sum += binary.LittleEndian.Uint64(p)
	}
	for _, b := range p {
		sum += uint64(b)
	}
	return sum
}

// samples are values that were read, kept for comparison after the clock has stopped.
type samples struct {
	ops   []sample
	bytes []byte // bytes of all samples, with fixed capacity; further samples are dropped
}

type sample struct{ op, from, to int }

// samplesMax bounds the memory that one worker's samples take, in bytes.
const samplesMax = 32 << 20

func newSamples(valueBytes, checks int) samples {
	n := min(checks, samplesMax/max(valueBytes, 1))
	return samples{ops: make([]sample, 0, n), bytes: make([]byte, 0, n*valueBytes)}
}

func (s *samples) keep(op int, value []byte) {
	if len(s.ops) == cap(s.ops) || len(s.bytes)+len(value) > cap(s.bytes) {
		return
	}
	from := len(s.bytes)
	s.bytes = append(s.bytes, value...)
	s.ops = append(s.ops, sample{op, from, len(s.bytes)})
}
