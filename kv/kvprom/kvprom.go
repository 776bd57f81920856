// Package kvprom exports the counters and gauges of a store to Prometheus.
//
//	db, err := kv.Open(path, &kv.Options{TimeOneIn: 64})
//	registry.MustRegister(kvprom.New(db, "sessions"))
//
// A scrape calls [kv.DB.Metrics] once. That takes the writer's turn for a moment and nothing else:
// between scrapes the collector costs nothing, and has no goroutine. Counters begin at 0 when the
// store is opened. A collector of a closed store answers with nvkv_up 0 and nothing else.
//
// Names follow the conventions of Prometheus: base units (bytes, seconds), the suffix _total for
// counters, one label "store" for the store and one label "kind" where a sum is divided. The latency
// histograms nvkv_call_duration_seconds are there if Options.TimeOneIn is set. They count the timed
// calls only: their quantiles are right, for rates use nvkv_puts_total and the like.
//
// docs/grafana-dashboard.json in the repository shows these metrics.
package kvprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nvkv/kv"
)

// Collector is a prometheus.Collector of one store. It may be used by many goroutines.
type Collector struct {
	db      *kv.DB
	up      *prometheus.Desc
	calls   *prometheus.Desc
	metrics []metric
}

// metric is a figure of kv.Metrics, or several that differ in the label "kind".
type metric struct {
	desc  *prometheus.Desc
	value prometheus.ValueType
	of    func(*kv.Metrics) float64
	kinds []kind
}

type kind struct {
	name string
	of   func(*kv.Metrics) float64
}

// New returns a collector. store is the value of the label "store", which tells the stores of a
// program apart. The collector does not keep db open.
func New(db *kv.DB, store string) *Collector {
	labels := prometheus.Labels{"store": store}
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("nvkv_"+name, help, more, labels)
	}
	c := &Collector{
		db:    db,
		up:    desc("up", "1 if the store is open, else 0."),
		calls: desc("call_duration_seconds", "Latency of the timed calls, by kind of call.", "call"),
	}
	for _, d := range figures {
		m := metric{value: d.value, of: d.of, kinds: d.kinds}
		if len(d.kinds) > 0 {
			m.desc = desc(d.name, d.help, "kind")
		} else {
			m.desc = desc(d.name, d.help)
		}
		c.metrics = append(c.metrics, m)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.calls
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	m := c.db.Metrics()
	if m.StoreID == "" { // closed
		out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, 0)
		return
	}
	out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, 1)
	for _, f := range c.metrics {
		if f.of != nil {
			out <- prometheus.MustNewConstMetric(f.desc, f.value, f.of(&m))
		}
		for _, k := range f.kinds {
			out <- prometheus.MustNewConstMetric(f.desc, f.value, k.of(&m), k.name)
		}
	}
	l := c.db.Latencies()
	if l.OneIn == 0 {
		return
	}
	for name, h := range map[string]*kv.LatencyHistogram{"get": &l.Get, "put": &l.Put, "delete": &l.Delete, "write": &l.Write, "commit": &l.Commit} {
		out <- prometheus.MustNewConstHistogram(c.calls, h.Count, h.Sum.Seconds(), buckets(h), name)
	}
}

// The buckets of the exported histograms end at powers of two, from 128 ns to 17 s: each is the sum
// of whole buckets of kv.
const (
	firstBucketBit = 7
	lastBucketBit  = 34
)

// buckets returns the cumulative counts of a histogram by the ends of the buckets in seconds.
func buckets(h *kv.LatencyHistogram) map[float64]uint64 {
	out := map[float64]uint64{}
	var n uint64
	next := h.Buckets
	for bit := firstBucketBit; bit <= lastBucketBit; bit++ {
		end := time.Duration(1) << bit
		for len(next) > 0 && next[0].Below <= end {
			n += next[0].Count
			next = next[1:]
		}
		out[end.Seconds()] = n
	}
	return out
}
