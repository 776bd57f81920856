package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/compat"
)

func newBenchStallCmd() *cobra.Command {
	out := &benchOutput{title: "nvkv bench stall"}
	p, repeat := bench.DefaultStallPlan(), 1
	cmd := &cobra.Command{
		Use:   "stall",
		Short: "Measure the longest stops of readers and writers",
		Long: `Puts and deletes random records for --time, with values that are small and large
in turn, so that each engine has to keep house meanwhile: nvkv takes checkpoints and
empties sparse slabs, pebble flushes and compacts. Every call is timed by itself; a
reader and a timer run beside the writers. The timer touches no store: its longest
delay is what the machine and the Go runtime do to any goroutine.

Each engine runs in a fresh process and directory. What it holds in the end is
compared with what was written.`,
		Example: `  nvkv bench stall
  nvkv bench stall --engines nvkv --time 10s --records 1000000 --json stall.json
  nvkv bench stall --dir /var/tmp`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.Validate(); err != nil {
				return usageError{err}
			}
			if repeat < 1 {
				return usagef("--repeat %d: want at least 1", repeat)
			}
			return out.run(cmd, p.Tasks(), repeat)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&p.Engines, "engines", p.Engines, "engines to measure, parted by commas; there are "+fmt.Sprint(compat.Names()))
	f.Uint64Var(&p.Records, "records", p.Records, "`N` records in the store")
	f.IntVar(&p.ValueBytes, "value-size", p.ValueBytes, "`BYTES` of the largest values")
	f.IntVar(&p.Threads, "threads", p.Threads, "`T` threads that write")
	f.DurationVar(&p.Time, "time", p.Time, "`DURATION` of writing on each engine")
	f.Uint64Var(&p.Seed, "seed", p.Seed, "`SEED` of all that is random")
	f.BoolVar(&p.Relaxed, "relaxed", false, "writes need not be durable when they return, in each engine's own way")
	f.IntVar(&repeat, "repeat", repeat, "`N` repetitions, of which the median counts")
	out.register(cmd)
	return cmd
}
