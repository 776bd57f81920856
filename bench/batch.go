package bench

import (
	"fmt"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/compat"
)

// batchBytesMax bounds the values of one batch, in bytes, so that batches of large values do not
// exhaust memory.
const batchBytesMax = 64 << 20

// runBatches does the stream's operations, all of which must write, in atomic batches of size
// operations. A latency is that of a batch.
func (w *worker) runBatches(start time.Time, limit time.Duration, size int) error {
	size = max(1, min(size, batchBytesMax/max(1, w.stream.Workload.ValueBytes())))
	ops := make([]compat.Op, 0, size)
	values := make([]byte, 0, size*w.stream.Workload.ValueBytes())
	last := time.Since(start)
	base := last
	for w.executed < len(w.stream.Ops) {
		from := w.executed
		ops, values = w.fill(ops[:0], values[:0], min(from+size, len(w.stream.Ops)))
		if err := w.engine.WriteBatch(ops); err != nil {
			return fmt.Errorf("batch of operations %d to %d of thread %d: %w", from, from+len(ops)-1, w.stream.Thread, err)
		}
		now := time.Since(start)
		w.latency.record(w.stream.Ops[from].Kind, now-last)
		w.overTime.addN(now, uint64(len(ops)))
		last = now
		w.executed += len(ops)
		w.done.Store(uint64(w.executed))
		if w.stop.Load() || limit > 0 && now-base >= limit {
			break
		}
	}
	w.ended = last
	return nil
}

// fill appends the writes and deletes up to operation end to a batch.
func (w *worker) fill(ops []compat.Op, values []byte, end int) ([]compat.Op, []byte) {
	for i := w.executed; i < end; i++ {
		if w.stream.Ops[i].Kind == ycsb.Delete {
			ops = append(ops, compat.Op{Key: w.stream.Key(i), Delete: true})
			continue
		}
		at := len(values)
		values = w.stream.Workload.AppendValue(values, w.stream.Ops[i].Record, w.stream.Version(i))
		ops = append(ops, compat.Op{Key: w.stream.Key(i), Value: values[at:len(values):len(values)]})
	}
	return ops, values
}
