package report

import (
	_ "embed"
	"html/template"
	"io"

	"nvkv/bench"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":    bench.Count,
	"bytes":    func(v int64) string { return dash(float64(v), bench.Bytes) },
	"ratio":    func(v float64) string { return dash(v, bench.Ratio) },
	"duration": bench.Duration,
	"per":      func(n uint64, r bench.Run) float64 { return float64(n) / max(float64(r.Ops), 1) },
	"cpu":      func(r bench.Run) string { return bench.Duration(int64(r.CPUSeconds * 1e9 / max(float64(r.Ops), 1))) },
}).Parse(pageText))

func dash(v float64, format func(float64) string) string {
	if v == 0 {
		return "–"
	}
	return format(v)
}

// page is the data of the template.
type page struct {
	*bench.Report
	Engines []legend
	Rows    []pageRow
	Floors  []bench.Run
	Details []bench.Run
	Plots   []section
}

type legend struct {
	Name  string
	Color template.CSS
}

type pageRow struct {
	bench.Row
	Cells []cell
	Times string // nvkv's throughput over that of the best other engine
	Rival string
	Won   bool
}

type cell struct {
	Text string
	Best bool
}

// section is a heading with plots.
type section struct {
	Title, Text string
	Wide        bool
	Plots       []template.HTML
}

// WriteHTML writes the report as one self-contained page.
func WriteHTML(w io.Writer, r *bench.Report) error {
	paint := newPainter(r, onPage)
	p := page{Report: r}
	for _, e := range paint.engines {
		p.Engines = append(p.Engines, legend{e, template.CSS(hexColor(paint.colors[e]))})
	}
	for _, row := range r.Rows() {
		p.Rows = append(p.Rows, newPageRow(row, paint.engines))
	}
	for _, run := range r.Runs {
		if run.Phase == "floor" {
			p.Floors = append(p.Floors, run)
		} else {
			p.Details = append(p.Details, run)
		}
	}
	var err error
	if p.Plots, err = paint.sections(); err != nil {
		return err
	}
	return pageTemplate.Execute(w, p)
}

func newPageRow(row bench.Row, engines []string) pageRow {
	pr := pageRow{Row: row}
	best := 0.0
	for engine, run := range row.Runs {
		if bench.IsReal(engine) {
			best = max(best, run.OpsPerS)
		}
	}
	for _, e := range engines {
		run, ok := row.Runs[e]
		pr.Cells = append(pr.Cells, cell{Text: row.Figure(e), Best: ok && run.OpsPerS == best})
	}
	if ratio, rival := row.Ratio(); ratio > 0 {
		pr.Times, pr.Rival, pr.Won = bench.Ratio(ratio), rival, ratio >= 1
	}
	return pr
}

// sections draws all plots of the page, without those that have no data.
func (f *painter) sections() ([]section, error) {
	var all []section
	for _, wide := range []struct {
		title, text string
		draw        func() (figure, bool)
	}{
		{"Throughput", "At the right: nvkv over the best of the others. The line through a dot is the spread of the repetitions.", f.throughput},
		{"Write amplification", "Counted by each engine where it hands bytes to the medium, the flush after the phase included.", f.writeAmplification},
	} {
		if fig, some := wide.draw(); some {
			text, err := inlineSVG(fig.plot, fig.w, fig.h)
			if err != nil {
				return nil, err
			}
			all = append(all, section{wide.title, wide.text, true, []template.HTML{template.HTML(text)}})
		}
	}
	for _, many := range []struct {
		title, text string
		draw        func() ([]figure, error)
	}{
		{"Latency", "Time within which a share of the operations was done; both axes are logarithmic.", f.latencies},
		{"Throughput over time", "Operations per second in the course of the median run; logarithmic.", f.overTime},
		{"Scaling with threads", "Operations per second, from 0.", f.byThreads},
		{"Scaling with the size of the store", "Operations per second over the number of records; both axes are logarithmic.", f.byRecords},
	} {
		figures, err := many.draw()
		if err != nil {
			return nil, err
		}
		s := section{Title: many.title, Text: many.text}
		for _, fig := range figures {
			text, err := inlineSVG(fig.plot, fig.w, fig.h)
			if err != nil {
				return nil, err
			}
			s.Plots = append(s.Plots, template.HTML(text))
		}
		if len(s.Plots) > 0 {
			all = append(all, s)
		}
	}
	return all, nil
}
