package bench

import (
	"time"

	"nvkv/bench/ycsb"
)

// StepKind is what a session does in one step.
type StepKind string

// The kinds of steps.
const (
	StepLoad   StepKind = "load"   // insert the records one by one; when LoadLimit has passed, the rest in batches, not measured
	StepRun    StepKind = "run"    // the step's workload
	StepMiss   StepKind = "miss"   // reads of keys that are not there
	StepBatch  StepKind = "batch"  // the step's workload, writes only, Batch at a time
	StepScan   StepKind = "scan"   // all records in order, again and again
	StepDelete StepKind = "delete" // every Stride-th record from Offset on
	StepReopen StepKind = "reopen" // report how long opening took, up to the first answer
	StepAcked  StepKind = "acked"  // after a kill: every acknowledged write must be there
	StepDoomed StepKind = "doomed" // write until killed, acknowledging
)

// Step is one step of a session.
type Step struct {
	Kind       StepKind        `json:"kind"`
	Name       string          `json:"name"` // of the workload in results
	Properties ycsb.Properties `json:"properties,omitempty"`
	Batch      int             `json:"batch,omitempty"`
	Stride     uint64          `json:"stride,omitempty"`
	Offset     uint64          `json:"offset,omitempty"` // of the first record that is deleted
	Acked      uint64          `json:"acked,omitempty"`
}

// Job is everything one process is told: which engine, where, what to do.
type Job struct {
	Engine     string          `json:"engine"`
	Dir        string          `json:"dir"` // of the store; the caller makes and removes it
	Relaxed    bool            `json:"relaxed,omitempty"`
	Existing   bool            `json:"existing,omitempty"` // the store is there, loaded as Properties say
	Seed       uint64          `json:"seed"`
	FirstPhase int             `json:"first_phase"` // phases of one store are numbered through, over sessions
	Properties ycsb.Properties `json:"properties"`  // of all steps
	Steps      []Step          `json:"steps"`
	LoadLimit  time.Duration   `json:"load_limit"`  // nanoseconds; 0 = none
	PhaseLimit time.Duration   `json:"phase_limit"` // nanoseconds; 0 = none
	ShrinkWait time.Duration   `json:"shrink_wait"` // nanoseconds that an engine has to give space back after deletes
	Warmup     time.Duration   `json:"warmup"`      // nanoseconds, before each run phase
	CheckEvery int             `json:"check_every"` // every which read is compared with what was written
	Floor      bool            `json:"floor,omitempty"`
	Threads    int             `json:"threads,omitempty"` // of a map or of stops; workloads say it themselves
	Map        *MapJob         `json:"map,omitempty"`
	Stall      *StallJob       `json:"stall,omitempty"`
}

// workload returns the checked workload of a step.
func (j *Job) workload(s Step) (*ycsb.Workload, error) {
	p := ycsb.Properties{}
	p.Merge(j.Properties)
	p.Merge(s.Properties)
	w, _, err := ycsb.Parse(p)
	return w, err
}

// event is what a session tells its parent, one JSON object a line.
type event struct {
	Run      *Run      `json:"run,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Acked    uint64    `json:"acked,omitempty"` // operations of a doomed session that are durable
	Error    string    `json:"error,omitempty"`
	Done     bool      `json:"done,omitempty"`
}

// Progress is how far a step has come.
type Progress struct {
	Engine string `json:"engine"`
	Step   string `json:"step"`
	Done   uint64 `json:"done"`
	Total  uint64 `json:"total"`
}
