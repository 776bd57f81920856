package bench

import (
	"fmt"
	"time"

	"nvkv/bench/ycsb"
)

// Plan holds the settings that all benchmarks share.
type Plan struct {
	Engines    []string
	Records    uint64
	Operations uint64 // of each run phase
	Threads    int
	ValueBytes int
	Relaxed    bool
	Seed       uint64
	LoadLimit  time.Duration // 0 = none
	PhaseLimit time.Duration // 0 = none
	ShrinkWait time.Duration // time for an engine to give space back after deletes
	Warmup     time.Duration
	CheckEvery int
	Properties ycsb.Properties // the user's; they override all others

	// Bare leaves the shape of records and the numbers of records, operations and threads to
	// Properties and YCSB's own defaults.
	Bare bool
}

// DefaultPlan returns a plan for a short comparison of all engines, which takes a machine with two
// cores less than a minute.
func DefaultPlan() Plan {
	return Plan{
		Engines: []string{"nvkv", "bbolt", "pebble"},
		Records: 100_000, Operations: 300_000, Threads: 1, ValueBytes: 100, Seed: 1,
		LoadLimit: time.Second, PhaseLimit: 400 * time.Millisecond, ShrinkWait: 2 * time.Second, Warmup: 50 * time.Millisecond, CheckEvery: 64,
	}
}

// properties returns the settings that a plan gives every workload: one field of the value's size,
// so that an update needs no read, and keys of one length.
func (p Plan) properties() ycsb.Properties {
	if p.Bare {
		props := ycsb.Properties{}
		props.Merge(p.Properties)
		return props
	}
	props := ycsb.Properties{
		"recordcount": fmt.Sprint(p.Records), "operationcount": fmt.Sprint(p.Operations), "threadcount": fmt.Sprint(p.Threads),
		"fieldcount": "1", "fieldlength": fmt.Sprint(p.ValueBytes), "zeropadding": "19",
	}
	props.Merge(p.Properties)
	return props
}

func (p Plan) job(engine string, steps ...Step) Job {
	return Job{
		Engine: engine, Relaxed: p.Relaxed, Seed: p.Seed, FirstPhase: 1, Properties: p.properties(), Steps: steps,
		LoadLimit: p.LoadLimit, PhaseLimit: p.PhaseLimit, ShrinkWait: p.ShrinkWait, Warmup: p.Warmup, CheckEvery: p.CheckEvery,
	}
}

// Workload is a named set of YCSB properties.
type Workload struct {
	Name       string
	Properties ycsb.Properties
}

// CoreWorkloads returns the named core workloads.
func CoreWorkloads(names ...string) ([]Workload, error) {
	var ws []Workload
	for _, name := range names {
		p, err := ycsb.Core(name)
		if err != nil {
			return nil, err
		}
		ws = append(ws, Workload{Name: name, Properties: p})
	}
	return ws, nil
}

// YCSB returns one task per engine: a load, then each workload on the store that the previous one
// left.
func (p Plan) YCSB(workloads []Workload) ([]Task, error) {
	steps := []Step{{Kind: StepLoad, Name: "load"}}
	shared := p.properties()
	for _, w := range workloads {
		props := ycsb.Properties{}
		props.Merge(w.Properties)
		props.Merge(shared) // the plan's settings apply to all workloads of a store
		if _, _, err := ycsb.Parse(props); err != nil {
			return nil, fmt.Errorf("workload %s: %w", w.Name, err)
		}
		steps = append(steps, Step{Kind: StepRun, Name: w.Name, Properties: props})
	}
	return p.perEngine("ycsb", func(engine string) []Job { return []Job{p.job(engine, steps...)} })
}

func (p Plan) perEngine(name string, jobs func(engine string) []Job) ([]Task, error) {
	var tasks []Task
	for _, engine := range p.Engines {
		if err := CheckEngine(engine); err != nil {
			return nil, err
		}
		task := Task{Name: name + " on " + engine, Jobs: jobs(engine)}
		for _, job := range task.Jobs {
			for _, step := range job.Steps {
				if _, err := job.workload(step); err != nil {
					return nil, fmt.Errorf("%s: %w", step.Name, err)
				}
			}
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// only returns settings for a workload of one kind of operation.
func only(proportion string, more ...string) ycsb.Properties {
	p := ycsb.Properties{
		"readproportion": "0", "updateproportion": "0", "insertproportion": "0", "scanproportion": "0",
		"readmodifywriteproportion": "0", "requestdistribution": "uniform",
	}
	p[proportion] = "1"
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return p
}

// These names of workloads of Micro are treated specially by reports.
const (
	nameReopen      = "reopen"
	nameKilled      = "reopen-killed"
	nameHalf        = "delete-half"
	nameRest        = "delete-rest"
	nameScan        = "scan-all"
	nameScanOrdered = "scan-ordered"
)

// BatchSizes are the sizes of batches that Micro measures.
var BatchSizes = []int{1, 10, 100, 1000}

// Micro returns two tasks per engine: one of single operations on one store, with reopening after a
// close and after a kill, and one of ordered loading.
func (p Plan) Micro() ([]Task, error) {
	updates := only("updateproportion")
	steps := []Step{
		{Kind: StepLoad, Name: "load"},
		{Kind: StepScan, Name: nameScan},
		{Kind: StepRun, Name: "get", Properties: only("readproportion")},
		{Kind: StepMiss, Name: "miss", Properties: only("readproportion")},
		{Kind: StepRun, Name: "update", Properties: updates},
	}
	for _, size := range BatchSizes {
		steps = append(steps, Step{Kind: StepBatch, Name: fmt.Sprintf("batch-%d", size), Batch: size, Properties: updates})
	}
	main, err := p.perEngine("micro", func(engine string) []Job {
		if !IsReal(engine) {
			return []Job{p.job(engine, steps...)} // nothing to reopen
		}
		return append([]Job{p.job(engine, steps...)}, p.afterwards(engine, len(steps))...)
	})
	if err != nil {
		return nil, err
	}
	ordered, err := p.perEngine("ordered load", func(engine string) []Job {
		job := p.job(engine, Step{Kind: StepLoad, Name: "load-ordered"}, Step{Kind: StepScan, Name: nameScanOrdered})
		job.Properties["insertorder"] = "ordered"
		return []Job{job}
	})
	return append(main, ordered...), err
}

// afterwards returns the sessions on the existing store: reopen after a close, write until killed,
// reopen after the kill, delete.
func (p Plan) afterwards(engine string, phases int) []Job {
	// The doomed session must not run out of operations before it is killed.
	const doomedOps = "2000000"
	doomed := only("updateproportion", "operationcount", doomedOps)
	clean := p.job(engine, Step{Kind: StepReopen, Name: nameReopen})
	kill := p.job(engine, Step{Kind: StepDoomed, Name: "doomed", Properties: doomed})
	recover := p.job(engine, Step{Kind: StepAcked, Name: nameKilled, Properties: doomed})
	shrink := p.job(engine,
		Step{Kind: StepDelete, Name: nameHalf, Stride: 2},
		Step{Kind: StepDelete, Name: nameRest, Stride: 2, Offset: 1})
	jobs := []Job{clean, kill, recover, shrink}
	for i := range jobs {
		jobs[i].Existing = true
		jobs[i].FirstPhase = phases + 1
	}
	return jobs
}

// Floors returns the task that measures the lower bounds of the medium.
func (p Plan) Floors() []Task {
	return []Task{{Name: "floors", Jobs: []Job{{Engine: FloorEngine, Floor: true, Seed: p.Seed, PhaseLimit: p.PhaseLimit}}}}
}
