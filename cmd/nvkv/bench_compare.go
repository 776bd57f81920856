package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"nvkv/bench"
)

func newBenchCompareCmd() *cobra.Command {
	var (
		below  float64
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "compare OLD.json NEW.json",
		Short: "Show what has changed between two reports",
		Long: `Pairs the runs that both reports hold and prints the ratio of the throughputs,
with the least and the most that their repetitions allow. Figures of different
machines, or of one machine on different days, say little.

With --fail-below it exits with 1 if a run of nvkv that is slower beyond its
spread has a ratio below that.`,
		Example: `  nvkv bench compare old.json new.json
  nvkv bench compare old.json new.json --fail-below 0.9`,
		Args: wantArgs("OLD.json", "NEW.json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := compareReports(args[0], args[1])
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(changes)
			} else {
				err = bench.WriteChanges(cmd.OutOrStdout(), changes)
			}
			if err != nil {
				return err
			}
			return failBelow(changes, below)
		},
	}
	cmd.Flags().Float64Var(&below, "fail-below", 0, "`RATIO` of nvkv's throughputs that is still accepted (default: any)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the changes as JSON")
	return cmd
}

func compareReports(before, after string) ([]bench.Change, error) {
	b, err := readReport(before)
	if err != nil {
		return nil, err
	}
	a, err := readReport(after)
	if err != nil {
		return nil, err
	}
	return bench.Compare(b, a)
}

func readReport(path string) (*bench.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bench.ReadReport(f, path)
}

func failBelow(changes []bench.Change, below float64) error {
	for _, c := range changes {
		if c.After.Engine == bench.Home && c.Ratio < below && c.Clear() {
			return fmt.Errorf("%s with %s is at %s of what it was, below %s",
				c.After.Workload, plural(c.After.Threads, "thread"), bench.Ratio(c.Ratio), bench.Ratio(below))
		}
	}
	return nil
}
