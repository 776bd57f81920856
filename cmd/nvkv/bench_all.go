package main

import (
	"fmt"
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
	sizes := []uint{10_000, 50_000}
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Measure everything, unattended",
		Long: `Measures the floors of the medium, the core workloads of YCSB with each number of
threads, single operations, and, for the growth with the size of the store, the
workloads a, c and e at each of --sizes, and for --stall-time the longest stops of
readers and writers. It takes about ten minutes in /dev/shm, and three times as
long with the second example.`,
		Example: `  nvkv bench all --json new.json --csv new.csv --html new.html --plots docs/img
  nvkv bench all --records 1000000 --time 3s --load-time 10s --html million.html
  nvkv bench all --dir /var/tmp --records 200000 --html ext4.html`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			tasks, err := allTasks(p, sizes)
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
	cmd.Flags().UintSliceVar(&sizes, "sizes", sizes, "`N` records of the smaller stores")
	cmd.Flags().DurationVar(&stall.Time, "stall-time", stall.Time, "`DURATION` for which the longest stops of each engine are looked for")
	cmd.Flags().Uint64Var(&stall.Records, "stall-records", stall.Records, "`N` records meanwhile")
	cmd.Flags().DurationVar(&p.plan.ShrinkWait, "shrink-wait", p.plan.ShrinkWait, "`DURATION` that an engine has to give space back after deletes")
	out.register(cmd)
	return cmd
}

func allTasks(p *planFlags, sizes []uint) ([]bench.Task, error) {
	core, err := bench.CoreWorkloads(ycsb.CoreNames...)
	if err != nil {
		return nil, err
	}
	few, err := bench.CoreWorkloads("a", "c", "e")
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
	single.records = sizes
	growth, err := single.tasks(func(plan bench.Plan) ([]bench.Task, error) { return plan.YCSB(few) })
	if err != nil {
		return nil, err
	}
	all = append(append(all, micro...), growth...)
	return append(all, p.plan.Floors()...), nil
}
