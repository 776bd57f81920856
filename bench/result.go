package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"nvkv/compat"
)

// Report is the result of a benchmark: the machine and one Run per measurement, the median of its
// repetitions. Its JSON form is a stable schema: fields are added, never renamed.
type Report struct {
	Title   string    `json:"title"`
	Created time.Time `json:"created"`
	Command string    `json:"command,omitempty"`
	Machine Machine   `json:"machine"`
	Runs    []Run     `json:"runs"`
	Raw     []Run     `json:"raw,omitempty"` // every repetition
}

// Run is the result of one engine in one workload. Times are in nanoseconds, sizes in bytes, and
// all counts are those of this phase alone.
type Run struct {
	Engine   string  `json:"engine"`
	Workload string  `json:"workload"`
	Phase    string  `json:"phase"` // "load", "run", "floor", "map" or "stall"
	Threads  int     `json:"threads"`
	Records  uint64  `json:"records"` // of the load phase
	Ops      uint64  `json:"ops"`
	OpsPerS  float64 `json:"ops_per_s"`
	P50      int64   `json:"p50_ns"`
	P99      int64   `json:"p99_ns"`
	P999     int64   `json:"p999_ns"`
	Max      int64   `json:"max_ns"`

	UserBytes    uint64 `json:"user_bytes"`     // keys and values written
	MediaBytes   uint64 `json:"media_bytes"`    // bytes to the medium, including the flush after the phase
	Fences       uint64 `json:"fences"`         // fences, fsyncs, fdatasyncs
	DiskBytes    int64  `json:"disk_bytes"`     // blocks the store occupies after the phase
	RSSAnonBytes int64  `json:"rss_anon_bytes"` // peak anonymous memory, without the benchmark's own

	// These fields extend the schema.

	Seconds      float64            `json:"seconds"`
	CPUSeconds   float64            `json:"cpu_seconds"`
	OtherCores   float64            `json:"other_cores,omitempty"` // cores that other processes used
	ValueBytes   int                `json:"value_bytes"`
	WriteAmp     float64            `json:"write_amplification,omitempty"` // media bytes per user byte
	SpaceAmp     float64            `json:"space_amplification,omitempty"` // disk bytes per byte of live keys and values
	FlushSeconds float64            `json:"flush_seconds,omitempty"`       // flush of the phase's pending work; not in Seconds
	HarnessNs    float64            `json:"harness_ns_per_op,omitempty"`   // cost of the loop itself, measured with an engine that does nothing; included in all times
	ReadBytes    uint64             `json:"read_bytes,omitempty"`          // bytes of keys and values that were read and summed
	Entries      uint64             `json:"entries,omitempty"`             // records visited by scans
	CacheHits    uint64             `json:"cache_hits,omitempty"`          // of a map: accesses that found a frame
	CacheMisses  uint64             `json:"cache_misses,omitempty"`        // of a map: other accesses
	Checked      uint64             `json:"checked,omitempty"`             // reads compared with the writes
	Capped       bool               `json:"capped,omitempty"`              // ended by the time limit before all operations were done
	TargetPerS   float64            `json:"target_ops_per_s,omitempty"`    // latencies count from the intended starts
	ServiceP99   int64              `json:"service_p99_ns,omitempty"`      // with a target: from the actual starts
	Relaxed      bool               `json:"relaxed,omitempty"`             // writes were not durable at return
	Repetition   int                `json:"repetition,omitempty"`
	Repetitions  int                `json:"repetitions,omitempty"`
	OpsPerSMin   float64            `json:"ops_per_s_min,omitempty"` // over the repetitions
	OpsPerSMax   float64            `json:"ops_per_s_max,omitempty"`
	Kinds        map[string]KindRun `json:"kinds,omitempty"`
	Percentiles  []Percentile       `json:"percentiles,omitempty"`
	Series       *Series            `json:"series,omitempty"`
	Housekeeping []compat.Counter   `json:"housekeeping,omitempty"` // the engine's background work
	Note         string             `json:"note,omitempty"`
}

// KindRun has the figures of one kind of operation within a run.
type KindRun struct {
	Ops  uint64 `json:"ops"`
	P50  int64  `json:"p50_ns"`
	P99  int64  `json:"p99_ns"`
	P999 int64  `json:"p999_ns"`
	Max  int64  `json:"max_ns"`
}

// Percentile is a point of a latency distribution.
type Percentile struct {
	Percent float64 `json:"percent"`
	Ns      int64   `json:"ns"`
}

// Series is throughput over time: operations finished per interval.
type Series struct {
	IntervalNs int64    `json:"interval_ns"`
	Ops        []uint64 `json:"ops"`
}

// runKey distinguishes runs that measure different things.
type runKey struct {
	engine, workload, phase string
	threads, valueBytes     int
	records                 uint64
	relaxed                 bool
}

func (r *Run) key() runKey {
	return runKey{r.Engine, r.Workload, r.Phase, r.Threads, r.ValueBytes, r.Records, r.Relaxed}
}

// NsPerOp is the mean time of an operation of one thread.
func (r *Run) NsPerOp() float64 {
	if r.OpsPerS == 0 {
		return 0
	}
	return 1e9 * float64(max(r.Threads, 1)) / r.OpsPerS
}

// WriteJSON writes the report, indented.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// ReadReport parses the output of WriteJSON. source is for error texts.
func ReadReport(r io.Reader, source string) (*Report, error) {
	var rep Report
	if err := json.NewDecoder(r).Decode(&rep); err != nil {
		return nil, fmt.Errorf("%s: not a report of this benchmark: %w", source, err)
	}
	if len(rep.Runs) == 0 {
		return nil, fmt.Errorf("%s: holds no runs", source)
	}
	return &rep, nil
}
