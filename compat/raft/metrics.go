package nvkvraft

import (
	"context"
	"time"

	"github.com/hashicorp/go-metrics"
)

// meter sends measurements to go-metrics under raft.nvkv., with the names that raft-boltdb has
// under raft.boltdb.: getLog, storeLogs, logSize, logsPerBatch, logBatchSize, writeCapacity; and
// deleteRange. logSize is the mean of a batch, one sample for each, where raft-boltdb has one for
// each entry: a sample costs as much as storing a small entry.
type meter struct {
	off bool
	to  *metrics.Metrics
}

func (m *meter) sink() *metrics.Metrics {
	if m.to != nil {
		return m.to
	}
	return metrics.Default()
}

func (m *meter) now() time.Time {
	if m.off {
		return time.Time{}
	}
	return time.Now()
}

func (m *meter) since(name string, begun time.Time) {
	if !m.off {
		m.sink().MeasureSince([]string{"raft", "nvkv", name}, begun)
	}
}

func (m *meter) sample(name string, v float32) {
	if !m.off {
		m.sink().AddSample([]string{"raft", "nvkv", name}, v)
	}
}

func (m *meter) gauge(name string, v float64) {
	m.sink().SetPrecisionGauge([]string{"raft", "nvkv", name}, v)
}

// batch reports a StoreLogs of n entries.
func (m *meter) batch(n, bytes int, begun time.Time) {
	if m.off {
		return
	}
	took := max(time.Since(begun), 1)
	m.sample("logSize", float32(bytes)/float32(n))
	m.sample("logsPerBatch", float32(n))
	m.sample("logBatchSize", float32(bytes))
	m.sample("writeCapacity", float32(float64(n)*float64(time.Second)/float64(took)))
	m.since("storeLogs", begun)
}

// RunMetrics reports the state of the store at each interval until ctx ends; 0: every five
// seconds. The gauges, under raft.nvkv., are: entries, deviceBytes, liveBytes, freeBytes,
// fences, commits, checkpoints, tombstones.
func (s *Store) RunMetrics(ctx context.Context, interval time.Duration) {
	if interval <= 0 {
		interval = 5 * time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.report()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Store) report() {
	m := s.db.Metrics()
	entries := uint64(0)
	if s.any.Load() {
		entries = s.last.Load() - s.first.Load() + 1
	}
	for name, v := range map[string]float64{
		"entries": float64(entries), "deviceBytes": float64(m.DeviceBytes),
		"liveBytes": float64(m.LiveBytes), "freeBytes": float64(m.FreeBytes),
		"fences": float64(m.Fences), "commits": float64(m.Commits),
		"checkpoints": float64(m.Checkpoints), "tombstones": float64(m.Tombstones),
	} {
		s.measure.gauge(name, v)
	}
}
