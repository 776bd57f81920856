package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"nvkv/bench/ycsb"
)

const (
	latencyMax    = int64(100 * time.Second) // longer ones count as this long
	latencyDigits = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, latencyMax, latencyDigits) }

// latencies are one worker's latencies, by kind of operation. A histogram is made with the first
// operation of its kind, because it takes a quarter of a MiB.
type latencies [ycsb.Kinds]*hdrhistogram.Histogram

func (l *latencies) record(k ycsb.Kind, d time.Duration) {
	h := l[k]
	if h == nil {
		h = newHistogram()
		l[k] = h
	}
	if h.RecordValue(int64(d)) != nil {
		// The only possible error is a value out of range: a clock that stood still, or an
		// operation of more than 100 s.
		h.RecordValue(min(max(int64(d), 1), latencyMax))
	}
}

func (l *latencies) merge(other *latencies) {
	for k, h := range other {
		if h == nil {
			continue
		}
		if l[k] == nil {
			l[k] = newHistogram()
		}
		l[k].Merge(h)
	}
}

// all merges the kinds.
func (l *latencies) all() *hdrhistogram.Histogram {
	sum := newHistogram()
	for _, h := range l {
		if h != nil {
			sum.Merge(h)
		}
	}
	return sum
}

// reported are the percentiles that reports and plots show.
var reported = []float64{
	0, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999, 100,
}

// into sets the latency figures of a run.
func (l *latencies) into(r *Run) {
	all := l.all()
	r.P50, r.P99, r.P999, r.Max = figures(all)
	r.Kinds = map[string]KindRun{}
	for k, h := range l {
		if h != nil {
			r.Kinds[ycsb.Kind(k).String()] = kindRun(l, ycsb.Kind(k))
		}
	}
	for _, p := range reported {
		r.Percentiles = append(r.Percentiles, Percentile{p, all.ValueAtPercentile(p)})
	}
}

// kindRun returns the figures of one kind.
func kindRun(l *latencies, k ycsb.Kind) (r KindRun) {
	if h := l[k]; h != nil {
		r.Ops = uint64(h.TotalCount())
		r.P50, r.P99, r.P999, r.Max = figures(h)
	}
	return r
}

func figures(h *hdrhistogram.Histogram) (p50, p99, p999, longest int64) {
	return h.ValueAtPercentile(50), h.ValueAtPercentile(99), h.ValueAtPercentile(99.9), h.Max()
}

const seriesSlots = 512

// series counts finished operations per interval. When it is full, pairs of intervals are merged,
// so that it fits a run of any length.
type series struct {
	interval time.Duration
	counts   [seriesSlots]uint64
}

func newSeries() *series { return &series{interval: 10 * time.Millisecond} }

func (s *series) add(at time.Duration) { s.addN(at, 1) }

// addN counts n operations that finished at the given time since the start.
func (s *series) addN(at time.Duration, n uint64) {
	i := int(at / s.interval)
	for i >= seriesSlots {
		s.fold()
		i = int(at / s.interval)
	}
	s.counts[i] += n
}

func (s *series) fold() {
	for i := range seriesSlots / 2 {
		s.counts[i] = s.counts[2*i] + s.counts[2*i+1]
	}
	clear(s.counts[seriesSlots/2:])
	s.interval *= 2
}

func (s *series) merge(other *series) {
	for s.interval < other.interval {
		s.fold()
	}
	for other.interval < s.interval {
		other.fold()
	}
	for i, n := range other.counts {
		s.counts[i] += n
	}
}

// upTo returns the intervals that lie wholly before end.
func (s *series) upTo(end time.Duration) *Series {
	n := min(int(end/s.interval), seriesSlots)
	return &Series{IntervalNs: int64(s.interval), Ops: append([]uint64(nil), s.counts[:n]...)}
}
