package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"nvkv/bench"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":    bench.Count,
	"bytes":    func(v int64) string { return dash(float64(v), bench.Bytes) },
	"ratio":    func(v float64) string { return dash(v, bench.Ratio) },
	"duration": bench.Duration,
	"add":      func(a, b int) int { return a + b },
	"loop":     func(ns float64) string { return dash(ns, func(v float64) string { return bench.Duration(int64(v)) }) },
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
	Disturbed string // says which runs other processes disturbed
	Engines   []legend
	Groups    []rowGroup
	Floors    []bench.Run
	Details   []runGroup
	Plots     []section
}

// rowGroup holds the rows that share their parameters, which stand in a line above them.
type rowGroup struct {
	Name string
	Rows []pageRow
}

// runGroup holds the runs of one workload.
type runGroup struct {
	Name string
	Runs []bench.Run
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
	Range string // of Times, if the spreads are known
	// Verdict is "win" or "lose" if all of the range is on one side of 1, else "".
	Verdict string
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
	Phone       []template.HTML // of a wide section: the same for narrow screens
}

// WriteHTML writes the report as one self-contained page.
func WriteHTML(w io.Writer, r *bench.Report) error {
	paint := newPainter(r, onPage)
	p := page{Report: r}
	for _, e := range paint.engines {
		p.Engines = append(p.Engines, legend{e, template.CSS(hexColor(paint.colors[e]))})
	}
	for _, row := range r.Rows() {
		name := parameters(row)
		if n := len(p.Groups); n == 0 || p.Groups[n-1].Name != name {
			p.Groups = append(p.Groups, rowGroup{Name: name})
		}
		g := &p.Groups[len(p.Groups)-1]
		g.Rows = append(g.Rows, newPageRow(row, paint.engines))
	}
	p.Disturbed = disturbed(r.Runs)
	for _, run := range r.Runs {
		if run.Phase == "floor" {
			p.Floors = append(p.Floors, run)
			continue
		}
		row := rowOf(run)
		name := row.Label() + " · " + parameters(row)
		at := slices.IndexFunc(p.Details, func(g runGroup) bool { return g.Name == name })
		if at < 0 {
			at = len(p.Details)
			p.Details = append(p.Details, runGroup{Name: name})
		}
		p.Details[at].Runs = append(p.Details[at].Runs, run)
	}
	var err error
	if p.Plots, err = paint.sections(); err != nil {
		return err
	}
	return pageTemplate.Execute(w, p)
}

// parameters says in words what distinguishes a row from others of its workload.
func parameters(row bench.Row) string {
	threads := "1 thread"
	if row.Threads != 1 {
		threads = fmt.Sprint(row.Threads, " threads")
	}
	return fmt.Sprintf("%s · %s records · values of %s", threads, bench.Count(float64(row.Records)), bench.Bytes(float64(row.ValueBytes)))
}

// disturbedNamed is how many disturbed runs the banner names.
const disturbedNamed = 6

// disturbed returns a sentence about the runs that other processes disturbed, or "".
func disturbed(runs []bench.Run) string {
	var names []string
	for _, r := range runs {
		if r.Noisy() {
			names = append(names, rowOf(r).Label()+" of "+r.Engine)
		}
	}
	if len(names) == 0 {
		return ""
	}
	text := fmt.Sprintf("Other processes were busy during %d of %d runs: ", len(names), len(runs))
	if len(names) > disturbedNamed {
		return text + "see the last column of the last table. Compare these figures with care."
	}
	return text + strings.Join(names, ", ") + "."
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
		pr.Cells = append(pr.Cells, cell{Text: strings.ReplaceAll(row.Figure(e), "!", ""), Best: ok && run.OpsPerS == best})
	}
	if ratio, rival := row.Ratio(); ratio > 0 {
		pr.Times, pr.Rival = bench.Ratio(ratio), rival
		least, most := row.RatioRange()
		if most > 0 {
			pr.Range = bench.Ratio(least) + " to " + bench.Ratio(most)
		}
		switch {
		case least > 1:
			pr.Verdict = "win"
		case most > 0 && most < 1:
			pr.Verdict = "lose"
		}
	}
	return pr
}

// sections draws all plots of the page, without those that have no data.
func (f *painter) sections() ([]section, error) {
	var all []section
	for _, wide := range []struct {
		title, text string
		draw        func(phone bool) (figure, bool)
	}{
		{"Throughput", "At the right: nvkv over the best of the others. The line through a dot is the spread of the repetitions.", f.throughput},
		{"Write amplification", "Counted by each engine where it hands bytes to the medium, the flush after the phase included.", f.writeAmplification},
	} {
		fig, some := wide.draw(false)
		if !some {
			continue
		}
		narrow, _ := wide.draw(true)
		text, err := inlineSVG(fig.plot, fig.w, fig.h)
		if err != nil {
			return nil, err
		}
		phone, err := inlineSVG(narrow.plot, narrow.w, narrow.h)
		if err != nil {
			return nil, err
		}
		all = append(all, section{wide.title, wide.text, true, []template.HTML{template.HTML(text)}, []template.HTML{template.HTML(phone)}})
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
