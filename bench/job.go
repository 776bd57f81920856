package bench

import (
	"time"

	"nvkv/bench/ycsb"
)

// StepKind is the kind of a step of a session.
type StepKind string

// These are the kinds of steps.
const (
	StepLoad   StepKind = "load"   // insert the records singly; after LoadLimit the rest in batches, not measured
	StepRun    StepKind = "run"    // the step's workload
	StepMiss   StepKind = "miss"   // reads of absent keys
	StepBatch  StepKind = "batch"  // the step's workload, writes only, Batch at a time
	StepScan   StepKind = "scan"   // all records in order, repeatedly
	StepDelete StepKind = "delete" // every Stride-th record from Offset on
	StepReopen StepKind = "reopen" // report the time of opening, including the first answer
	StepAcked  StepKind = "acked"  // after a kill: every acknowledged write must be there
	StepDoomed StepKind = "doomed" // write until killed, acknowledging
)

// Step is one step of a session.
type Step struct {
	Kind       StepKind        `json:"kind"`
	Name       string          `json:"name"` // name of the workload in results
	Properties ycsb.Properties `json:"properties,omitempty"`
	Batch      int             `json:"batch,omitempty"`
	Stride     uint64          `json:"stride,omitempty"`
	Offset     uint64          `json:"offset,omitempty"` // first record to delete
	Acked      uint64          `json:"acked,omitempty"`
}

// Job holds all instructions for one process.
type Job struct {
	Engine     string          `json:"engine"`
	Dir        string          `json:"dir"` // directory of the store; the caller makes and removes it
	Relaxed    bool            `json:"relaxed,omitempty"`
	Existing   bool            `json:"existing,omitempty"` // the store exists, loaded as Properties say
	Seed       uint64          `json:"seed"`
	FirstPhase int             `json:"first_phase"` // number of the first phase; the phases of one store are numbered across sessions
	Properties ycsb.Properties `json:"properties"`  // of all steps
	Steps      []Step          `json:"steps"`
	LoadLimit  time.Duration   `json:"load_limit"`  // nanoseconds; 0 = none
	PhaseLimit time.Duration   `json:"phase_limit"` // nanoseconds; 0 = none
	ShrinkWait time.Duration   `json:"shrink_wait"` // time for an engine to give space back after deletes
	Warmup     time.Duration   `json:"warmup"`      // nanoseconds, before each run phase
	CheckEvery int             `json:"check_every"` // one read in CheckEvery is compared with the writes
	Floor      bool            `json:"floor,omitempty"`
	Threads    int             `json:"threads,omitempty"` // threads of a map or stall job; workloads have their own
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

// event is a message of a session to its parent, one JSON object per line.
type event struct {
	Run      *Run      `json:"run,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Acked    uint64    `json:"acked,omitempty"` // operations of a doomed session that are durable
	Error    string    `json:"error,omitempty"`
	Done     bool      `json:"done,omitempty"`
}

// Progress describes the progress of a step.
type Progress struct {
	Engine string `json:"engine"`
	Step   string `json:"step"`
	Done   uint64 `json:"done"`
	Total  uint64 `json:"total"`
}
