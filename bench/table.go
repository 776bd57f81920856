package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"nvkv/bench/ycsb"
)

// Home is the engine that ratios compare with the others.
const Home = "nvkv"

// WriteTable writes the report for a terminal: a line per workload with every engine's throughput
// and the ratio of nvkv to the best of the others, then the details of each run.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s on %s: %s\n", r.Machine, r.Machine.Dir, r.Machine.FileSystem, r.Machine.Medium)
	if r.isMap() {
		return r.writeMaps(w)
	}
	rows := r.Rows()
	if engines := r.Engines(); len(engines) > 0 {
		fmt.Fprintln(w)
		if err := writeSummary(w, rows, engines); err != nil {
			return err
		}
		if all, threads := scalings(rows, engines); len(all) > 0 {
			fmt.Fprintln(w)
			if err := writeScaling(w, all, threads); err != nil {
				return err
			}
		}
	}
	stalls := r.stalls()
	if len(stalls) < len(r.Runs) {
		fmt.Fprintln(w)
		if err := writeDetails(w, r.Runs); err != nil {
			return err
		}
	}
	if len(stalls) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return writeStalls(w, stalls)
}

// isWorkload reports whether the run belongs in a line with runs of other engines.
func (r *Run) isWorkload() bool { return r.Phase == "load" || r.Phase == "run" }

// Row has the runs of all engines in one workload.
type Row struct {
	Workload, Phase string
	Threads         int
	ValueBytes      int
	Records         uint64
	Runs            map[string]Run // by engine
}

// Rows groups the runs of engines by workload, in their first order.
func (r *Report) Rows() []Row {
	var rows []Row
	at := map[runKey]int{}
	for _, run := range r.Runs {
		if !run.isWorkload() {
			continue
		}
		k := run.key()
		k.engine = ""
		i, ok := at[k]
		if !ok {
			i = len(rows)
			at[k] = i
			rows = append(rows, Row{run.Workload, run.Phase, run.Threads, run.ValueBytes, run.Records, map[string]Run{}})
		}
		rows[i].Runs[run.Engine] = run
	}
	return rows
}

// Engines lists the engines in their first order.
func (r *Report) Engines() []string {
	var names []string
	for _, run := range r.Runs {
		if run.isWorkload() && !slices.Contains(names, run.Engine) {
			names = append(names, run.Engine)
		}
	}
	return names
}

// Ratio returns nvkv's throughput over that of the best other engine, and the name of that engine.
// It returns 0 if one of the two is missing.
func (row Row) Ratio() (float64, string) {
	home, ok := row.Runs[Home]
	best, name := 0.0, ""
	for _, engine := range sortedKeys(row.Runs) {
		if run := row.Runs[engine]; engine != Home && IsReal(engine) && run.OpsPerS > best {
			best, name = run.OpsPerS, engine
		}
	}
	if !ok || best == 0 {
		return 0, ""
	}
	return home.OpsPerS / best, name
}

// RatioRange returns the least and the greatest Ratio that the repetitions allow: nvkv's slowest over
// the rival's fastest, and the reverse. It returns 0 if there is no ratio or only one repetition.
func (row Row) RatioRange() (least, most float64) {
	_, rival := row.Ratio()
	home, other := row.Runs[Home], row.Runs[rival]
	if rival == "" || home.Repetitions < 2 || other.OpsPerSMin == 0 {
		return 0, 0
	}
	return home.OpsPerSMin / other.OpsPerSMax, home.OpsPerSMax / other.OpsPerSMin
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Label returns the workload and the parameters that distinguish it from others of its name.
func (row Row) Label() string {
	label := row.Workload
	if label == ycsb.EView {
		return "YCSB E in a View"
	}
	if row.Phase == "run" && len(label) == 1 {
		label = "YCSB " + strings.ToUpper(label)
	}
	return label
}

func writeSummary(w io.Writer, rows []Row, engines []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "operations/s\tthreads\trecords\tvalue\t%s\t\t\t\n", strings.Join(engines, "\t"))
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t%d\t%s\t%d B\t", row.Label(), row.Threads, Count(float64(row.Records)), row.ValueBytes)
		for _, engine := range engines {
			fmt.Fprintf(t, "%s\t", row.Figure(engine))
		}
		if ratio, rival := row.Ratio(); ratio > 0 {
			fmt.Fprintf(t, "%s = %s x %s\t", Home, Ratio(ratio), rival)
		} else {
			fmt.Fprint(t, "\t")
		}
		if least, most := row.RatioRange(); most > 0 {
			fmt.Fprintf(t, "(%s to %s)", Ratio(least), Ratio(most))
		}
		fmt.Fprint(t, "\t")
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, footnotes)
	return err
}

var footnotes = fmt.Sprintf("in brackets: from the slowest run of nvkv over the fastest of the rival to the reverse\n"+
	"* the clock ended it; the rest was done in batches, not measured\n"+
	"! other processes were using more than %v cores meanwhile\n", noisyCores)

// Figure returns the main result of an engine as a short text: operations per second, or the time
// of reopening. A star marks a phase that the time limit ended, an exclamation mark one that other
// processes disturbed.
func (row Row) Figure(engine string) string {
	run, ok := row.Runs[engine]
	switch {
	case !ok:
		return "-"
	case row.IsReopen():
		return Duration(run.P50)
	case run.Capped && run.Note == restNote:
		return Count(run.OpsPerS) + run.mark() + "*"
	}
	return Count(run.OpsPerS) + run.mark()
}

// mark is the suffix of a disturbed figure.
func (r Run) mark() string {
	if r.Noisy() {
		return "!"
	}
	return ""
}

// IsReopen reports whether the row measures opening a store, which is one operation.
func (row Row) IsReopen() bool { return row.Workload == nameReopen || row.Workload == nameKilled }

// IsDelete reports whether the row measures deletes.
func (row Row) IsDelete() bool { return row.Workload == nameHalf || row.Workload == nameRest }

// IsScan reports whether the row measures full scans, where a latency is that of a whole pass.
func (row Row) IsScan() bool { return row.Workload == nameScan || row.Workload == nameScanOrdered }

func writeDetails(w io.Writer, runs []Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tengine\tthr\tops/s\tspread\tp50\tp99\tp99.9\tmax\tWA\tmedia/op\tfences/op\tdisk\tRSS anon\tCPU µs/op\tloop\t")
	for _, r := range runs {
		if r.Phase == StallWorkload {
			continue // it has a table of its own
		}
		ops := max(float64(r.Ops), 1)
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t\n",
			r.Workload, r.Engine, r.Threads, Count(r.OpsPerS), r.spread(), Duration(r.P50), Duration(r.P99), Duration(r.P999), Duration(r.Max),
			dashed(r.WriteAmp, Ratio), dashed(float64(r.MediaBytes)/ops, Bytes), dashed(float64(r.Fences)/ops, Ratio),
			dashed(float64(r.DiskBytes), Bytes), dashed(float64(r.RSSAnonBytes), Bytes), r.CPUSeconds*1e6/ops,
			dashed(r.HarnessNs, func(ns float64) string { return Duration(int64(ns)) }))
	}
	return t.Flush()
}

// spread returns the largest deviation of a repetition from the median.
func (r Run) spread() string {
	if r.Repetitions < 2 || r.OpsPerS == 0 {
		return "-"
	}
	off := max(r.OpsPerS-r.OpsPerSMin, r.OpsPerSMax-r.OpsPerS) / r.OpsPerS
	return fmt.Sprintf("±%.0f%%", off*100)
}

func dashed(v float64, format func(float64) string) string {
	if v == 0 {
		return "-"
	}
	return format(v)
}

// Count writes a number with three digits and a unit: 12.3k, 1.05M.
func Count(v float64) string { return scaled(v, 1000, "", "k", "M", "G") }

// Bytes writes a size in binary units.
func Bytes(v float64) string { return scaled(v, 1024, " B", " KiB", " MiB", " GiB", " TiB") }

func scaled(v, base float64, units ...string) string {
	i := 0
	for v >= base*0.9995 && i < len(units)-1 {
		v /= base
		i++
	}
	return threeDigits(v) + units[i]
}

// Ratio writes a quotient with three digits.
func Ratio(v float64) string { return threeDigits(v) }

func threeDigits(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1e6:
		return fmt.Sprintf("%.0f", v)
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Duration writes nanoseconds with three digits and a unit.
func Duration(ns int64) string {
	switch d := time.Duration(ns); {
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", ns)
	case d < time.Millisecond:
		return threeDigits(float64(ns)/1e3) + "µs"
	case d < time.Second:
		return threeDigits(float64(ns)/1e6) + "ms"
	}
	return threeDigits(float64(ns)/1e9) + "s"
}
