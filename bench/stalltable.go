package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"nvkv/compat"
)

// stalls returns the runs that measure stalls.
func (r *Report) stalls() (runs []Run) {
	for _, run := range r.Runs {
		if run.Phase == StallWorkload {
			runs = append(runs, run)
		}
	}
	return runs
}

// writeStalls writes a line per engine with the longest puts and reads during background work, and
// the lateness of a timer.
func writeStalls(w io.Writer, runs []Run) error {
	first := runs[0]
	fmt.Fprintf(w, "random puts of %d to %d B and deletes among %s records for %s, a reader and a timer beside\n\n",
		stallValueMin, first.ValueBytes, Count(float64(first.Records)), Duration(int64(first.Seconds*1e9)))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "engine\tthr\tputs/s\tp50\tp99\tp99.9\tp99.99\tlongest\tdelete p99.9\tlongest\tread p99.9\tlongest\ttimer p99.9\tlongest\tothers\tdisk\tRSS anon\t")
	for _, run := range runs {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t", run.Engine, run.Threads, Count(run.OpsPerS)+run.mark(),
			Duration(run.P50), Duration(run.P99), Duration(run.P999), Duration(run.percentile(99.99)), Duration(run.Max))
		for _, kind := range []string{stallDelete, stallRead, stallTimer} {
			k := run.Kinds[kind]
			fmt.Fprintf(t, "%s\t%s\t", Duration(k.P999), Duration(k.Max))
		}
		fmt.Fprintf(t, "%.2f\t%s\t%s\t\n", run.OtherCores, dashed(float64(run.DiskBytes), Bytes), dashed(float64(run.RSSAnonBytes), Bytes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, run := range runs {
		if len(run.Housekeeping) > 0 {
			fmt.Fprintf(w, "%s meanwhile: %s\n", run.Engine, countersText(run.Housekeeping))
		}
	}
	_, err := fmt.Fprintf(w, "timer: how late a goroutine goes on that only sleeps; the machine and the runtime alone do that\n"+
		"others: cores that other processes and other guests of the host were using meanwhile; ! more than %v\n", noisyCores)
	return err
}

// percentile returns a point of the distribution, 0 if it was not reported.
func (r Run) percentile(percent float64) int64 {
	i := slices.IndexFunc(r.Percentiles, func(p Percentile) bool { return p.Percent == percent })
	if i < 0 {
		return 0
	}
	return r.Percentiles[i].Ns
}

// countersText writes "12 checkpoints, 3.40 MiB evacuated".
func countersText(counters []compat.Counter) string {
	var parts []string
	for _, c := range counters {
		if what, ok := strings.CutSuffix(c.Name, "_bytes"); ok {
			parts = append(parts, Bytes(float64(c.Value))+" "+what)
		} else {
			parts = append(parts, Count(float64(c.Value))+" "+strings.ReplaceAll(c.Name, "_", " "))
		}
	}
	return strings.Join(parts, ", ")
}
