package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"nvkv/bench"
)

// figure is a plot and its intended size.
type figure struct {
	plot *plot.Plot
	w, h vg.Length
}

// painter draws the figures of one report in one theme.
type painter struct {
	theme   theme
	report  *bench.Report
	engines []string
	colors  map[string]color.RGBA
}

func newPainter(r *bench.Report, t theme) *painter {
	engines := r.Engines()
	return &painter{theme: t, report: r, engines: engines, colors: palette(engines)}
}

// throughput draws every workload in a row, for the first number of threads and the largest store.
func (f *painter) throughput(phone bool) (figure, bool) {
	rows := slices.DeleteFunc(f.mainRows(), func(r bench.Row) bool { return r.IsReopen() })
	return f.dotFigure("operations per second, log scale: right is better", phone, rows, bench.Count,
		func(run bench.Run) dot {
			return dot{value: run.OpsPerS, least: orElse(run.OpsPerSMin, run.OpsPerS), most: orElse(run.OpsPerSMax, run.OpsPerS)}
		}, func(row bench.Row) string {
			if ratio, _ := row.Ratio(); ratio > 0 {
				return bench.Ratio(ratio) + "x"
			}
			return ""
		})
}

// writeAmplification draws the write amplification of the workloads that write.
func (f *painter) writeAmplification(phone bool) (figure, bool) {
	rows := slices.DeleteFunc(f.mainRows(), func(r bench.Row) bool { return r.IsDelete() })
	return f.dotFigure("bytes to the medium per byte written, log scale: left is better", phone, rows,
		func(v float64) string { return bench.Ratio(v) + "x" },
		func(run bench.Run) dot { return dot{value: run.WriteAmp, least: run.WriteAmp, most: run.WriteAmp} },
		func(bench.Row) string { return "" })
}

func orElse(v, otherwise float64) float64 {
	if v > 0 {
		return v
	}
	return otherwise
}

// mainRows returns the rows with the fewest threads, the most records and the first value size,
// which a single figure can show.
func (f *painter) mainRows() []bench.Row {
	rows := f.report.Rows()
	if len(rows) == 0 {
		return nil
	}
	threads, records := rows[0].Threads, uint64(0)
	for _, r := range rows {
		threads, records = min(threads, r.Threads), max(records, r.Records)
	}
	value := rows[0].ValueBytes
	return slices.DeleteFunc(rows, func(r bench.Row) bool {
		return r.Threads != threads || r.Records != records || r.ValueBytes != value
	})
}

// Widths of dot figures. A figure is as wide as the page, so its width decides the size of its text.
const (
	deskWidth  = 860
	phoneWidth = 300
	rowHeight  = 30 // of three engines
)

func (f *painter) dotFigure(title string, phone bool, rows []bench.Row, format func(float64) string,
	pick func(bench.Run) dot, note func(bench.Row) string) (figure, bool) {
	d := dotRows{theme: f.theme, lanes: len(f.engines), room: 0.12}
	if phone {
		d.room = 0.3
	}
	for _, row := range rows {
		dr := dotRow{label: row.Label(), note: note(row)}
		for lane, engine := range f.engines {
			run, ok := row.Runs[engine]
			if dot := pick(run); ok && dot.value > 0 {
				dot.color, dot.lane = f.colors[engine], lane
				dr.dots = append(dr.dots, dot)
			}
		}
		if len(dr.dots) > 0 {
			d.rows = append(d.rows, dr)
		}
	}
	if len(d.rows) == 0 {
		return figure{}, false
	}
	for _, engine := range f.engines {
		if f.theme.alone {
			d.key = append(d.key, keyEntry{engine, f.colors[engine]})
		}
	}
	width := vg.Length(deskWidth)
	if phone {
		width = phoneWidth
		title, _, _ = strings.Cut(title, ", ") // the caption says the rest
	}
	p := f.theme.newRows(title)
	p.Add(d)
	p.Y.Tick.Marker = d.ticks()
	p.Y.Tick.Length = 0
	logAxis(&p.X, format)
	return figure{p, width, vg.Length(80 + rowHeight*len(d.rows))}, true
}

// small returns a figure of the size for several side by side.
func small(p *plot.Plot) figure { return figure{p, 300, 230} }

// curves draws one line per engine; pick returns its points.
func (f *painter) curves(p *plot.Plot, runs map[string][]bench.Run, pick func([]bench.Run) plotter.XYs) error {
	for _, engine := range f.engines {
		points := pick(runs[engine])
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = f.colors[engine], lineWidth
		dots.Color, dots.Shape, dots.Radius = f.colors[engine], draw.CircleGlyph{}, dotRadius/2
		p.Add(line)
		if len(points) <= 20 {
			p.Add(dots)
		}
	}
	return nil
}

func byEngine(row bench.Row) map[string][]bench.Run {
	runs := map[string][]bench.Run{}
	for engine, run := range row.Runs {
		runs[engine] = []bench.Run{run}
	}
	return runs
}

// latencies draws one figure per workload: time over percentile.
func (f *painter) latencies() ([]figure, error) {
	var figures []figure
	for _, row := range f.mainRows() {
		if row.IsReopen() || row.IsScan() {
			continue
		}
		p := f.theme.newPlot(row.Label(), "percentile", "")
		if err := f.curves(p, byEngine(row), percentiles); err != nil {
			return nil, err
		}
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, percentileTicks()
		p.X.Min, p.X.Max = 1, 1.2e5
		logAxis(&p.Y, func(ns float64) string { return bench.Duration(int64(math.Round(ns))) })
		figures = append(figures, small(p))
	}
	return figures, nil
}

// percentiles places a percentile by the share of operations beyond it, so
// that 90, 99 and 99.9 are equally far apart.
func percentiles(runs []bench.Run) plotter.XYs {
	var points plotter.XYs
	for _, r := range runs {
		for _, p := range r.Percentiles {
			if beyond := 100 - p.Percent; p.Percent < 100 && p.Ns > 0 && r.Ops >= uint64(100/beyond) {
				points = append(points, plotter.XY{X: 100 / beyond, Y: float64(p.Ns)})
			}
		}
	}
	return points
}

func percentileTicks() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, p := range []float64{50, 90, 99, 99.9, 99.99, 99.999} {
		ticks = append(ticks, plot.Tick{Value: 100 / (100 - p), Label: fmt.Sprint(p)})
	}
	return ticks
}

// overTime draws one figure per YCSB workload: throughput per second.
func (f *painter) overTime() ([]figure, error) {
	var figures []figure
	for _, row := range f.mainRows() {
		p := f.theme.newPlot(row.Label(), "seconds", "")
		runs := byEngine(row)
		if !slices.ContainsFunc(f.engines, func(e string) bool { return len(timeline(runs[e])) > 2 }) {
			continue
		}
		if err := f.curves(p, runs, timeline); err != nil {
			return nil, err
		}
		p.X.Min = 0
		logAxis(&p.Y, bench.Count)
		figures = append(figures, small(p))
	}
	return figures, nil
}

// timelinePoints is the resolution of a figure over time.
const timelinePoints = 60

func timeline(runs []bench.Run) plotter.XYs {
	var points plotter.XYs
	for _, r := range runs {
		if r.Series == nil {
			continue
		}
		step := len(r.Series.Ops)/timelinePoints + 1
		for i := 0; i+step <= len(r.Series.Ops); i += step {
			var n uint64
			for _, ops := range r.Series.Ops[i : i+step] {
				n += ops
			}
			if n > 0 { // a logarithmic axis cannot show zero
				seconds := float64(r.Series.IntervalNs) * float64(step) / 1e9
				points = append(points, plotter.XY{X: (float64(i/step) + 0.5) * seconds, Y: float64(n) / seconds})
			}
		}
	}
	return points
}

// scaling draws one figure per workload that ran at several values of the parameter that by
// returns, with equal other parameters.
func (f *painter) scaling(label string, by func(bench.Row) float64, axis func(*plot.Plot), same func(bench.Row) bool) ([]figure, error) {
	groups, order := map[string][]bench.Row{}, []string{}
	for _, row := range f.report.Rows() {
		if !same(row) || row.IsReopen() {
			continue
		}
		if groups[row.Label()] == nil {
			order = append(order, row.Label())
		}
		groups[row.Label()] = append(groups[row.Label()], row)
	}
	var figures []figure
	for _, name := range order {
		rows := groups[name]
		slices.SortFunc(rows, func(a, b bench.Row) int { return int(math.Copysign(1, by(a)-by(b))) })
		if by(rows[0]) == by(rows[len(rows)-1]) {
			continue
		}
		p := f.theme.newPlot(name, label, "")
		if err := f.curves(p, scaled(rows), func(runs []bench.Run) plotter.XYs {
			var points plotter.XYs
			for _, r := range runs {
				points = append(points, plotter.XY{X: by(rowOf(r)), Y: r.OpsPerS})
			}
			return points
		}); err != nil {
			return nil, err
		}
		axis(p)
		figures = append(figures, small(p))
	}
	return figures, nil
}

func scaled(rows []bench.Row) map[string][]bench.Run {
	runs := map[string][]bench.Run{}
	for _, row := range rows {
		for engine, run := range row.Runs {
			runs[engine] = append(runs[engine], run)
		}
	}
	return runs
}

func rowOf(r bench.Run) bench.Row {
	return bench.Row{Workload: r.Workload, Phase: r.Phase, Threads: r.Threads, ValueBytes: r.ValueBytes, Records: r.Records}
}

// byThreads shows how throughput grows with threads, for the largest store.
func (f *painter) byThreads() ([]figure, error) {
	main := f.mainRows()
	if len(main) == 0 {
		return nil, nil
	}
	return f.scaling("threads", func(r bench.Row) float64 { return float64(r.Threads) },
		func(p *plot.Plot) {
			linearAxis(&p.Y, bench.Count)
			p.X.Min, p.X.Tick.Marker = 0, wholeTicks{}
			p.X.Max *= 1.1
		}, func(r bench.Row) bool { return r.Records == main[0].Records && r.ValueBytes == main[0].ValueBytes })
}

// wholeTicks marks whole numbers.
type wholeTicks struct{}

func (wholeTicks) Ticks(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	step := math.Max(1, math.Ceil((hi-lo)/8))
	for v := math.Ceil(math.Max(lo, 1)); v <= hi; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprint(v)})
	}
	return ticks
}

// byRecords shows how throughput falls with the size of the store.
func (f *painter) byRecords() ([]figure, error) {
	main := f.mainRows()
	if len(main) == 0 {
		return nil, nil
	}
	return f.scaling("records", func(r bench.Row) float64 { return float64(r.Records) },
		func(p *plot.Plot) { logAxis(&p.X, bench.Count); logAxis(&p.Y, bench.Count) },
		func(r bench.Row) bool { return r.Threads == main[0].Threads && r.ValueBytes == main[0].ValueBytes })
}
