package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/bench/ycsb"
	"nvkv/compat"
)

func newBenchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure nvkv beside bbolt and pebble",
		Long: `Measures engines side by side, with every write durable when it returns. Each
repetition of each engine runs in a fresh process and a fresh directory; engines
take turns; the median counts. Stores are made below --dir, /dev/shm where there
is one, and removed again. A read that returns anything but what was written
ends the benchmark.

"nvkv bench ycsb" is the place to begin: it takes less than a minute.`,
		Example: `  nvkv bench ycsb
  nvkv bench micro --records 1000000 --html report.html
  nvkv bench floor --dir /var/tmp
  nvkv bench map
  nvkv bench stall
  nvkv bench all --json new.json --html new.html --plots docs/img
  nvkv bench compare old.json new.json`,
	}
	cmd.AddCommand(newBenchYCSBCmd(), newBenchMicroCmd(), newBenchFloorCmd(), newBenchMapCmd(), newBenchStallCmd(), newBenchAllCmd(), newBenchCompareCmd(), newBenchSessionCmd())
	return cmd
}

// newBenchSessionCmd returns the command that the other benchmarks start, once per engine and
// repetition.
func newBenchSessionCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "session",
		Short:  "Carry out one job of a benchmark, given as JSON on standard input",
		Args:   wantArgs(),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.Child(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// planFlags are the flags that select the measurements.
type planFlags struct {
	plan    bench.Plan
	records []uint
	threads []int
	values  []int
	repeat  int
}

// register binds the flags. Their present values are the defaults.
func (p *planFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&p.plan.Engines, "engines", p.plan.Engines, "engines to measure, parted by commas; there are "+fmt.Sprint(compat.Names())+", and noop, whose figures are the benchmark's own cost")
	f.UintSliceVar(&p.records, "records", p.records, "`N` records in the store; several numbers measure each")
	f.Uint64Var(&p.plan.Operations, "operations", p.plan.Operations, "`N` operations of each run phase, unless --time ends it before")
	f.IntSliceVar(&p.threads, "threads", p.threads, "`T` threads; several numbers measure each")
	f.IntSliceVar(&p.values, "value-size", p.values, "`BYTES` of a value; several numbers measure each")
	f.IntVar(&p.repeat, "repeat", p.repeat, "`N` repetitions, of which the median counts")
	f.DurationVar(&p.plan.PhaseLimit, "time", p.plan.PhaseLimit, "longest `DURATION` of each run phase; 0 = until all operations are done")
	f.DurationVar(&p.plan.LoadLimit, "load-time", p.plan.LoadLimit, "longest `DURATION` of loading one by one, what is left is loaded in batches; 0 = no limit")
	f.DurationVar(&p.plan.Warmup, "warmup", p.plan.Warmup, "`DURATION` of each run phase that is not measured, at most a tenth of the operations")
	f.IntVar(&p.plan.CheckEvery, "check-every", p.plan.CheckEvery, "compare every `N`th read with what was written; 0 = none")
	f.Uint64Var(&p.plan.Seed, "seed", p.plan.Seed, "`SEED` of all that is random")
	f.BoolVar(&p.plan.Relaxed, "relaxed", false, "writes need not be durable when they return, in each engine's own way")
}

func (p *planFlags) validate() error {
	for _, engine := range p.plan.Engines {
		if err := bench.CheckEngine(engine); err != nil {
			return usageError{err}
		}
	}
	switch {
	case len(p.plan.Engines) == 0:
		return usagef("--engines: want at least one")
	case p.repeat < 1:
		return usagef("--repeat %d: want at least 1", p.repeat)
	case slices.ContainsFunc(p.values, func(n int) bool { return n < 0 }):
		return usagef("--value-size %v: want 0 or more", p.values)
	case slices.ContainsFunc(p.threads, func(n int) bool { return n < 1 }):
		return usagef("--threads %v: want 1 or more", p.threads)
	case slices.Contains(p.records, 0) || p.plan.Operations == 0:
		return usagef("--records and --operations: want 1 or more")
	case p.plan.PhaseLimit < 0 || p.plan.LoadLimit < 0 || p.plan.Warmup < 0 || p.plan.CheckEvery < 0:
		return usagef("--time, --load-time, --warmup and --check-every: want 0 or more")
	}
	return nil
}

// plans returns a plan for each combination of records, value size and
// threads.
func (p *planFlags) plans() []bench.Plan {
	var plans []bench.Plan
	for _, records := range p.records {
		for _, value := range p.values {
			for _, threads := range p.threads {
				plan := p.plan
				plan.Records, plan.ValueBytes, plan.Threads = uint64(records), value, threads
				plans = append(plans, plan)
			}
		}
	}
	return plans
}

// tasks joins the results of make for each plan.
func (p *planFlags) tasks(make func(bench.Plan) ([]bench.Task, error)) ([]bench.Task, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	var all []bench.Task
	for _, plan := range p.plans() {
		tasks, err := make(plan)
		if err != nil {
			return nil, usageError{err}
		}
		all = append(all, tasks...)
	}
	return all, nil
}

func defaultPlanFlags() *planFlags {
	plan := bench.DefaultPlan()
	return &planFlags{plan: plan, records: []uint{uint(plan.Records)}, threads: []int{plan.Threads}, values: []int{plan.ValueBytes}, repeat: 3}
}

func newBenchMicroCmd() *cobra.Command {
	p, out := defaultPlanFlags(), &benchOutput{title: "nvkv bench micro"}
	cmd := &cobra.Command{
		Use:   "micro",
		Short: "Measure single operations, full scans, batches, reopening and deleting",
		Long: `Measures, on each engine, one kind of operation at a time: loading one by one
in hashed and in key order, a full scan after each, reads of keys that are there
and that are not, updates one by one and in batches of 1 to 1000, reopening after
a close and after kill -9 in the middle of updates (all that were acknowledged
must be there), and deleting, with the space that is left. Engines take turns, and
the table gives the median of the repetitions and how far they lie apart. It takes
about two minutes.`,
		Example: `  nvkv bench micro
  nvkv bench micro --records 1000000 --operations 1000000 --time 5s --load-time 30s --repeat 5`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			tasks, err := p.tasks(bench.Plan.Micro)
			if err != nil {
				return err
			}
			return out.run(cmd, tasks, p.repeat)
		},
	}
	p.register(cmd)
	cmd.Flags().DurationVar(&p.plan.ShrinkWait, "shrink-wait", p.plan.ShrinkWait, "`DURATION` that an engine has to give space back after deletes")
	out.register(cmd)
	return cmd
}

func newBenchFloorCmd() *cobra.Command {
	out := &benchOutput{title: "nvkv bench floor"}
	plan, repeat := bench.DefaultPlan(), 3
	cmd := &cobra.Command{
		Use:   "floor",
		Short: "Measure what no engine on this medium can beat",
		Long: `Measures the raw medium below --dir: copying bytes to it and fencing them, one
dependent read after another, and a write of a file followed by fdatasync.`,
		Example: `  nvkv bench floor
  nvkv bench floor --dir /var/tmp --json floor.json`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if repeat < 1 {
				return usagef("--repeat %d: want at least 1", repeat)
			}
			return out.run(cmd, plan.Floors(), repeat)
		},
	}
	cmd.Flags().DurationVar(&plan.PhaseLimit, "time", 300*time.Millisecond, "`DURATION` of each measurement")
	cmd.Flags().IntVar(&repeat, "repeat", repeat, "`N` repetitions, of which the median counts")
	out.register(cmd)
	return cmd
}

// settings merges property files and name=value settings, in this order.
func settings(files, single []string) (ycsb.Properties, error) {
	all := ycsb.Properties{}
	for _, path := range files {
		p, err := ycsb.ReadPropertyFile(path)
		if err != nil {
			return nil, err
		}
		all.Merge(p)
	}
	for _, s := range single {
		if err := all.Set(s); err != nil {
			return nil, usageError{err}
		}
	}
	return all, nil
}
