package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"nvkv/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "goycsb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "session" {
		return bench.Child(ctx, os.Stdin, os.Stdout)
	}
	if len(args) == 2 && args[0] == "drive" {
		return drive(ctx, args[1])
	}
	o := order{ValueBytes: 100}
	var engines, workloads string
	var tolerance float64
	var repeat int
	f := flag.NewFlagSet("goycsb", flag.ExitOnError)
	f.StringVar(&engines, "engines", "nvkv,bbolt,pebble", "engines to drive")
	f.StringVar(&workloads, "workloads", "a,b,c,f,d,e", "core workloads to run")
	f.StringVar(&o.Dir, "dir", bench.DefaultDir(), "directory below which stores are made")
	f.IntVar(&o.Records, "records", 100_000, "records to load")
	f.IntVar(&o.Operations, "operations", 100_000, "operations of each workload")
	f.IntVar(&o.Threads, "threads", 1, "threads")
	f.IntVar(&repeat, "repeat", 3, "repetitions, of which the median counts")
	f.Float64Var(&tolerance, "tolerance", 0.25, "largest relative difference of an engine's times")
	f.Parse(args)
	if o.Records < 1 || o.Operations < 1 || o.Threads < 1 || repeat < 1 {
		return fmt.Errorf("-records, -operations, -threads and -repeat: want at least 1")
	}
	o.Workloads = strings.Split(workloads, ",")
	return compare(ctx, o, strings.Split(engines, ","), repeat, tolerance)
}

// times are nanoseconds per operation, by engine and workload.
type times map[string]map[string]float64

// repetitions are the times of each repetition.
type repetitions []times

// medians joins repetitions.
func (r repetitions) medians() times {
	lists := map[string]map[string][]float64{}
	for _, t := range r {
		for engine, byWorkload := range t {
			if lists[engine] == nil {
				lists[engine] = map[string][]float64{}
			}
			for workload, ns := range byWorkload {
				lists[engine][workload] = append(lists[engine][workload], ns)
			}
		}
	}
	joined := times{}
	for engine, byWorkload := range lists {
		joined[engine] = map[string]float64{}
		for workload, list := range byWorkload {
			joined[engine][workload] = middle(list)
		}
	}
	return joined
}

// compare lets the two benchmarks take turns, so that changes of the machine affect both.
func compare(ctx context.Context, o order, engines []string, repeat int, tolerance float64) error {
	var theirs, own repetitions
	for range repeat {
		t, err := driveAll(ctx, o, append([]string{noop}, engines...))
		if err != nil {
			return err
		}
		m, err := measureAll(ctx, o, engines)
		if err != nil {
			return err
		}
		theirs, own = append(theirs, t), append(own, m)
	}
	workloads := append([]string{"load"}, o.Workloads...)
	return judge(os.Stdout, engines, workloads, theirs.medians(), own.medians(), tolerance)
}

// driveAll lets go-ycsb drive each engine in a process and a directory of its
// own.
func driveAll(ctx context.Context, o order, engines []string) (times, error) {
	all := times{}
	for _, engine := range engines {
		got, err := driveOnce(ctx, o, engine)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", engine, err)
		}
		all[engine] = got
	}
	return all, nil
}

func driveOnce(ctx context.Context, o order, engine string) (map[string]float64, error) {
	dir, err := os.MkdirTemp(o.Dir, "nvkv-goycsb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	o.Engine, o.Dir = engine, dir
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "drive", string(text))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	var got map[string]float64
	lines := bytes.Split(bytes.TrimSpace(said.Bytes()), []byte("\n"))
	err = json.Unmarshal(lines[len(lines)-1], &got)
	return got, err
}

// measureAll runs this project's benchmark on the same engines. Its times exclude the cost of its
// loop.
func measureAll(ctx context.Context, o order, engines []string) (times, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	plan := bench.DefaultPlan()
	plan.Engines, plan.Records, plan.Operations = engines, uint64(o.Records), uint64(o.Operations)
	plan.Threads, plan.ValueBytes, plan.LoadLimit, plan.PhaseLimit = o.Threads, o.ValueBytes, 0, 0
	workloads, err := bench.CoreWorkloads(o.Workloads...)
	if err != nil {
		return nil, err
	}
	tasks, err := plan.YCSB(workloads)
	if err != nil {
		return nil, err
	}
	report, err := (&bench.Runner{Command: []string{self, "session"}, Dir: o.Dir}).Run(ctx, tasks, 1)
	if err != nil {
		return nil, err
	}
	own := times{}
	for _, r := range report.Runs {
		if own[r.Engine] == nil {
			own[r.Engine] = map[string]float64{}
		}
		own[r.Engine][r.Workload] = r.NsPerOp() - r.HarnessNs
	}
	return own, nil
}
