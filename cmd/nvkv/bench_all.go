package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/bench/ycsb"
)

func newBenchAllCmd() *cobra.Command {
	p, out := defaultPlanFlags(), &benchOutput{title: "nvkv bench all"}
	p.records, p.threads, p.plan.Operations = []uint{200_000}, []int{1, 2}, 1_000_000
	p.plan.LoadLimit, p.plan.PhaseLimit, p.plan.Warmup = 2*time.Second, time.Second, 100*time.Millisecond
	stall := bench.DefaultStallPlan()
	stall.Time = 5 * time.Second
	sizes, values := []uint{10_000, 50_000}, []int{1000}
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Measure everything, unattended",
		Long: `Measures the floors of the medium, the core workloads of YCSB with each number of
threads, single operations, and the workloads a, c, e and e-view at each of
--sizes and with values of --sizes-of-values, and for --stall-time the longest
stops of readers and writers. It takes about ten minutes in /dev/shm, and three
times as long with the second example.`,
		Example: `  nvkv bench all --json new.json --csv new.csv --html new.html --plots docs/img
  nvkv bench all --records 1000000 --time 3s --load-time 10s --html million.html
  nvkv bench all --sizes 5000000,10000000 --html large.html
  nvkv bench all --dir /var/tmp --records 200000 --html ext4.html`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			tasks, err := allTasks(p, sizes, values)
			if err != nil {
				return err
			}
			stall.Engines, stall.Seed, stall.Relaxed = p.plan.Engines, p.plan.Seed, p.plan.Relaxed
			if err := stall.Validate(); err != nil {
				return usageError{fmt.Errorf("stops: %w", err)}
			}
			tasks = append(tasks, stall.Tasks()...)
			return out.run(cmd, tasks, p.repeat)
		},
	}
	p.register(cmd)
	cmd.Flags().UintSliceVar(&sizes, "sizes", sizes, "`N` records of further stores")
	cmd.Flags().IntSliceVar(&values, "sizes-of-values", values, "`BYTES` of the values of further stores")
	cmd.Flags().DurationVar(&stall.Time, "stall-time", stall.Time, "`DURATION` for which the longest stops of each engine are looked for")
	cmd.Flags().Uint64Var(&stall.Records, "stall-records", stall.Records, "`N` records meanwhile")
	cmd.Flags().DurationVar(&p.plan.ShrinkWait, "shrink-wait", p.plan.ShrinkWait, "`DURATION` that an engine has to give space back after deletes")
	out.register(cmd)
	return cmd
}

func allTasks(p *planFlags, sizes []uint, values []int) ([]bench.Task, error) {
	core, err := bench.CoreWorkloads(append(slices.Clone(ycsb.CoreNames), ycsb.EView)...)
	if err != nil {
		return nil, err
	}
	few, err := bench.CoreWorkloads("a", "c", "e", ycsb.EView)
	if err != nil {
		return nil, err
	}
	all, err := p.tasks(func(plan bench.Plan) ([]bench.Task, error) { return plan.YCSB(core) })
	if err != nil {
		return nil, err
	}
	single := *p
	single.threads = []int{1}
	micro, err := single.tasks(bench.Plan.Micro)
	if err != nil {
		return nil, err
	}
	wide := single
	wide.values = values
	large, err := wide.tasks(func(plan bench.Plan) ([]bench.Task, error) { return plan.YCSB(few) })
	if err != nil {
		return nil, err
	}
	single.records = sizes
	growth, err := single.tasks(func(plan bench.Plan) ([]bench.Task, error) { return plan.YCSB(few) })
	if err != nil {
		return nil, err
	}
	all = slices.Concat(all, micro, large, growth)
	return append(all, p.plan.Floors()...), nil
}
