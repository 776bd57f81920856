package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// scaling is what one engine did in one workload, by the number of threads.
type scaling struct {
	row    Row // the first one
	engine string
	runs   map[int]Run
}

// scalings returns those workloads that were measured with several numbers of threads, and these
// numbers, ascending.
func scalings(rows []Row, engines []string) (all []scaling, threads []int) {
	for _, engine := range engines {
		at := map[runKey]int{}
		for _, row := range rows {
			run, ok := row.Runs[engine]
			if !ok || row.IsReopen() {
				continue
			}
			key := run.key()
			key.threads = 0
			i, ok := at[key]
			if !ok {
				i = len(all)
				at[key] = i
				all = append(all, scaling{row, engine, map[int]Run{}})
			}
			all[i].runs[row.Threads] = run
		}
	}
	all = slices.DeleteFunc(all, func(s scaling) bool { return len(s.runs) < 2 })
	for _, s := range all {
		for n := range s.runs {
			if !slices.Contains(threads, n) {
				threads = append(threads, n)
			}
		}
	}
	slices.Sort(threads)
	return all, threads
}

// writeScaling writes a line for each workload and engine: the throughput for each number of
// threads, and its quotient by that of the fewest.
func writeScaling(w io.Writer, all []scaling, threads []int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "operations/s\tengine\trecords\tvalue\t")
	for _, n := range threads {
		fmt.Fprintf(t, "%d thr\t", n)
	}
	fmt.Fprintln(t)
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d B\t%s\t\n", s.row.Label(), s.engine, Count(float64(s.row.Records)), s.row.ValueBytes, strings.Join(s.cells(threads), "\t"))
	}
	return t.Flush()
}

// cells returns the throughput for each number of threads, with an exclamation mark where others
// disturbed the run.
func (s scaling) cells(threads []int) (cells []string) {
	first := 0.0
	for _, n := range threads {
		run, ok := s.runs[n]
		switch {
		case !ok:
			cells = append(cells, "-")
		case first == 0:
			first = run.OpsPerS
			cells = append(cells, Count(run.OpsPerS)+run.mark())
		default:
			cells = append(cells, fmt.Sprintf("%s%s (%s)", Count(run.OpsPerS), run.mark(), Ratio(run.OpsPerS/first)))
		}
	}
	return cells
}
