package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/bench/ycsb"
)

// ycsbFlags are the flags of "bench ycsb".
type ycsbFlags struct {
	*planFlags
	workloads    []string
	distribution string
	target       float64
	files        []string
	single       []string
}

func newBenchYCSBCmd() *cobra.Command {
	y, out := &ycsbFlags{planFlags: defaultPlanFlags()}, &benchOutput{title: "nvkv bench ycsb"}
	cmd := &cobra.Command{
		Use:   "ycsb",
		Short: "Run the core workloads of YCSB",
		Long: `Loads the records, then runs the workloads on them, in the order a, b, c, f, d,
e, as YCSB's documentation has it: those that insert come last.

  a  half reads, half updates        d  reads of the newest, 5 % inserts
  b  5 % updates                     e  scans of up to 100, 5 % inserts
  c  reads only                      f  half reads, half read-modify-write

A record has one field of --value-size bytes and a key of 23 bytes. With -P the
property file says all that, and flags that are given override it; -p overrides
both. Two settings are not YCSB's own: with scansnapshot=true each scan opens a
snapshot and closes it, as programs do, which makes workload e the workload
e-view; and readbatch=N has each read look up N keys together. With --target
operations start at their intended times and latencies count from there, whether
the engine was ready or not.`,
		Example: `  nvkv bench ycsb
  nvkv bench ycsb --engines nvkv,pebble --workloads a,c --records 1000000 --threads 1,2
  nvkv bench ycsb -P workloads/workloada -p recordcount=50000 -p requestdistribution=uniform
  nvkv bench ycsb --workloads e -p scansnapshot=true
  nvkv bench ycsb --workloads c -p readbatch=100
  nvkv bench ycsb --workloads a --target 20000 --time 10s --operations 200000`,
		Args: wantArgs(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		tasks, warnings, err := y.tasks(cmd)
		for _, w := range warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: setting %s means nothing here\n", cmd.CommandPath(), w)
		}
		if err != nil {
			return err
		}
		return out.run(cmd, tasks, y.repeat)
	}
	y.register(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&y.workloads, "workloads", ycsb.CoreNames, "core workloads to run, parted by commas")
	f.StringVar(&y.distribution, "distribution", "", "zipfian, uniform, latest, hotspot, exponential or sequential (default: the workload's own)")
	f.Float64Var(&y.target, "target", 0, "`OPS` per second over all threads that operations are started at (default: as fast as they come)")
	f.StringArrayVarP(&y.files, "property-file", "P", nil, "YCSB property `FILE` that is the workload; several are merged")
	f.StringArrayVarP(&y.single, "property", "p", nil, "YCSB `setting`, name=value")
	out.register(cmd)
	return cmd
}

// tasks returns the tasks, and the names of the ignored settings.
func (y *ycsbFlags) tasks(cmd *cobra.Command) ([]bench.Task, []string, error) {
	props, err := settings(y.files, y.single)
	if err != nil {
		return nil, nil, err
	}
	y.applyFlags(cmd, props)
	_, skipped, err := ycsb.Parse(props)
	if err != nil {
		return nil, nil, usageError{err}
	}
	tasks, err := y.build(cmd, props)
	return tasks, skipped, err
}

// applyFlags turns the flags given into settings, which -p overrides.
func (y *ycsbFlags) applyFlags(cmd *cobra.Command, props ycsb.Properties) {
	own := map[string]bool{}
	for _, s := range y.single {
		name, _, _ := strings.Cut(strings.ReplaceAll(s, ":", "="), "=")
		own[strings.TrimSpace(name)] = true
	}
	set := func(flag, name, value string) {
		if cmd.Flags().Changed(flag) && !own[name] {
			props[name] = value
		}
	}
	set("distribution", "requestdistribution", y.distribution)
	set("target", "target", fmt.Sprint(y.target))
	if len(y.files) > 0 {
		set("records", "recordcount", fmt.Sprint(first(y.records)))
		set("operations", "operationcount", fmt.Sprint(y.plan.Operations))
		set("threads", "threadcount", fmt.Sprint(first(y.threads)))
		set("value-size", "fieldlength", fmt.Sprint(first(y.values)))
		set("value-size", "fieldcount", "1")
	}
}

func first[T any](list []T) (v T) {
	if len(list) > 0 {
		v = list[0]
	}
	return v
}

func (y *ycsbFlags) build(cmd *cobra.Command, props ycsb.Properties) ([]bench.Task, error) {
	y.plan.Properties = props
	if len(y.files) == 0 {
		workloads, err := bench.CoreWorkloads(inOrder(y.workloads)...)
		if err != nil {
			return nil, usageError{err}
		}
		return y.planFlags.tasks(func(p bench.Plan) ([]bench.Task, error) { return p.YCSB(workloads) })
	}
	if cmd.Flags().Changed("workloads") || len(y.records) > 1 || len(y.threads) > 1 || len(y.values) > 1 {
		return nil, usagef("-P is one workload of one size: no --workloads, and no lists with it")
	}
	y.plan.Bare = true
	name := filepath.Base(y.files[len(y.files)-1])
	return y.planFlags.tasks(func(p bench.Plan) ([]bench.Task, error) {
		return p.YCSB([]bench.Workload{{Name: name}})
	})
}

// inOrder puts core workloads in the order in which YCSB runs them. Other names stay, and are
// refused later.
func inOrder(names []string) []string {
	var ordered []string
	for _, core := range ycsb.CoreNames {
		for i, name := range names {
			if strings.EqualFold(name, core) {
				ordered = append(ordered, core)
				names = append(names[:i:i], names[i+1:]...)
				break
			}
		}
	}
	return append(ordered, names...)
}
