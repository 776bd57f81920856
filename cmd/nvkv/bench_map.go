package main

import (
	"time"

	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/nvmap"
)

func newBenchMapCmd() *cobra.Command {
	out := &benchOutput{title: "nvkv bench map"}
	p := bench.MapPlan{
		Threads:  []int{1, 2},
		Modes:    []string{nvmap.Cached.String(), nvmap.Direct.String(), nvmap.DirectProtect.String()},
		Policies: nvmap.Policies(),
		Limit:    20 * time.Second,
	}
	if nvmap.PagedSupported() == nil {
		p.Modes = append(p.Modes, bench.Transparent)
	}
	mib, repeat := 256, 1
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Measure the memory map beside the kernel's",
		Long: `Measures package nvmap alone, beside mmap of the same file: writing the device
from end to end until all is durable, reading it from end to end, reading 8
bytes of each page in random order, and zipfian stores of 64 bytes. There is
memory for 1/32 of the device.

  cached           pages are copied to frames in DRAM, read and changed there
  direct           pages are read and written in place
  direct-protect   pages are read in place; what is written goes to a frame first
  transparent      the program has a plain slice; another process serves its faults

On tmpfs and on DAX file systems the medium is memory, and neither mmap nor direct
modes need more. On other file systems mmap and direct modes have the page cache,
limited by a memory cgroup where one can be made, and cached, transparent and
pread go past it. The
column "note" says which was the case. Each contestant with each number of threads
runs in a process and on a file of its own.`,
		Example: `  nvkv bench map
  nvkv bench map --dir /var/tmp --size 1024 --threads 2 --json map.json
  nvkv bench map --mode cached --policy clock,s3fifo --delay 1us`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.Bytes = int64(mib) << 20
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
	f.IntVar(&mib, "size", mib, "`MIB` of the device, a power of two")
	f.IntSliceVar(&p.Threads, "threads", p.Threads, "`T` threads; several numbers measure each")
	f.StringSliceVar(&p.Modes, "mode", p.Modes, "modes to measure, parted by commas")
	f.StringSliceVar(&p.Policies, "policy", p.Policies, "cache policies of the modes that have frames")
	f.DurationVar(&p.Delay, "delay", 0, "`DURATION` by which each access to the device is delayed, in nvmap's modes")
	f.DurationVar(&p.Limit, "time", p.Limit, "longest `DURATION` of each test; 0 = no limit")
	f.IntVar(&repeat, "repeat", repeat, "`N` repetitions, of which the median counts")
	out.register(cmd)
	return cmd
}
