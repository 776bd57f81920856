package bench

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// Change is one run before and after a change.
type Change struct {
	Before, After Run
	Ratio         float64 // of the throughputs
	Least, Most   float64 // bounds from the repetitions: worst after over best before, and the reverse
}

// Clear reports whether the repetitions of both runs do not overlap.
func (c Change) Clear() bool { return c.Least > 1 || c.Most < 1 }

// Compare pairs the runs that are in both reports.
func Compare(before, after *Report) ([]Change, error) {
	old := map[runKey]Run{}
	for _, r := range before.Runs {
		old[r.key()] = r
	}
	var changes []Change
	for _, r := range after.Runs {
		b, ok := old[r.key()]
		if !ok || b.OpsPerS == 0 || r.OpsPerS == 0 {
			continue
		}
		changes = append(changes, Change{
			Before: b, After: r, Ratio: r.OpsPerS / b.OpsPerS,
			Least: least(r) / most(b), Most: most(r) / least(b),
		})
	}
	if len(changes) == 0 {
		return nil, errors.New("bench: the two reports have no run in common (same engine, workload, threads, records and value size)")
	}
	return changes, nil
}

func least(r Run) float64 {
	if r.OpsPerSMin > 0 {
		return r.OpsPerSMin
	}
	return r.OpsPerS
}

func most(r Run) float64 { return max(r.OpsPerSMax, r.OpsPerS) }

// WriteChanges writes a line per change. It marks changes larger than the spread of the
// repetitions.
func WriteChanges(w io.Writer, changes []Change) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tengine\tthreads\trecords\tbefore/s\tafter/s\tratio\tspread\tp99 before\tp99 after\t\t")
	for _, c := range changes {
		mark := "within the spread"
		if c.Clear() {
			mark = "slower"
			if c.Ratio > 1 {
				mark = "faster"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s..%s\t%s\t%s\t%s\t\n",
			c.After.Workload, c.After.Engine, c.After.Threads, Count(float64(c.After.Records)),
			Count(c.Before.OpsPerS), Count(c.After.OpsPerS), Ratio(c.Ratio), Ratio(c.Least), Ratio(c.Most),
			Duration(c.Before.P99), Duration(c.After.P99), mark)
	}
	return t.Flush()
}
