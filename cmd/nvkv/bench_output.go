package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nvkv/bench"
	"nvkv/bench/report"
)

// benchOutput holds the directory for stores and the destinations of the figures.
type benchOutput struct {
	title   string
	dir     string
	json    string
	csv     string
	html    string
	plots   string
	verbose bool
}

func (o *benchOutput) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "`DIR` below which stores are made (default: "+bench.DefaultDir()+")")
	f.StringVar(&o.json, "json", "", "write the report to `FILE` as JSON; - in place of the table")
	f.StringVar(&o.csv, "csv", "", "write a line per run to `FILE`; - in place of the table")
	f.StringVar(&o.html, "html", "", "write one self-contained page with plots to `FILE`")
	f.StringVar(&o.plots, "plots", "", "write the two main plots to `DIR`, as SVG and PNG")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "a line on standard error for every run of every repetition, and all that a failing session says")
}

// run carries the tasks out and writes the figures. After an error or a signal it writes the
// figures measured before.
func (o *benchOutput) run(cmd *cobra.Command, tasks []bench.Task, repeat int) error {
	if err := o.prepare(); err != nil {
		return err
	}
	bar := newBenchBar(cmd.ErrOrStderr(), tasks, repeat)
	r := &bench.Runner{Dir: o.dir, Progress: bar.progress}
	if o.verbose {
		r.Stderr = cmd.ErrOrStderr()
	}
	r.Finished = func(run bench.Run) {
		bar.finished()
		if o.verbose {
			bar.clear()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d/%d %s on %s, %s: %s ops/s\n",
				run.Repetition, repeat, run.Workload, run.Engine, plural(run.Threads, "thread"), bench.Count(run.OpsPerS))
		}
	}
	rep, err := r.Run(cmd.Context(), tasks, repeat)
	bar.clear()
	rep.Title, rep.Command = o.title, strings.Join(append([]string{"nvkv"}, os.Args[1:]...), " ")
	if len(rep.Runs) > 0 {
		err = errors.Join(err, o.write(cmd.OutOrStdout(), rep))
	}
	return err
}

// prepare reports errors that can be found before minutes are spent.
func (o *benchOutput) prepare() error {
	if o.dir != "" {
		if info, err := os.Stat(o.dir); err != nil {
			return err
		} else if !info.IsDir() {
			return usagef("--dir %s is not a directory", o.dir)
		}
	}
	for _, path := range []string{o.json, o.csv, o.html} {
		if path == "" || path == "-" {
			continue
		}
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if o.plots != "" {
		return os.MkdirAll(o.plots, 0o777)
	}
	return nil
}

func (o *benchOutput) write(stdout io.Writer, rep *bench.Report) error {
	var errs []error
	to := func(path string, write func(io.Writer) error) {
		switch path {
		case "":
		case "-":
			errs = append(errs, write(stdout))
		default:
			errs = append(errs, writeFile(path, write))
		}
	}
	to(o.json, rep.WriteJSON)
	to(o.csv, rep.WriteCSV)
	to(o.html, func(w io.Writer) error { return report.WriteHTML(w, rep) })
	if o.plots != "" {
		errs = append(errs, report.WritePlots(o.plots, rep))
	}
	if o.json != "-" && o.csv != "-" && o.html != "-" {
		errs = append(errs, rep.WriteTable(stdout))
	}
	return errors.Join(errs...)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// benchBar shows the progress of a benchmark on a terminal. It counts steps in thousandths.
type benchBar struct {
	bar   *progressbar.ProgressBar // nil if no terminal shows it
	steps int                      // finished
}

const stepParts = 1000

func newBenchBar(w io.Writer, tasks []bench.Task, repeat int) *benchBar {
	if !isTerminal(w) {
		return &benchBar{}
	}
	return &benchBar{bar: progressbar.NewOptions(bench.RunCount(tasks)*repeat*stepParts,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth())}
}

func (b *benchBar) progress(p bench.Progress) {
	if b.bar == nil {
		return
	}
	b.bar.Describe(fmt.Sprintf("%-7s %-14s", p.Engine, p.Step))
	part := 0
	if p.Total > 0 {
		part = int(p.Done * stepParts / p.Total)
	}
	b.bar.Set(b.steps*stepParts + min(part, stepParts-1)) // if the terminal cannot be written to, the bar is not needed
}

func (b *benchBar) finished() {
	b.steps++
	if b.bar != nil {
		b.bar.Set(b.steps * stepParts)
	}
}

func (b *benchBar) clear() {
	if b.bar != nil {
		b.bar.Clear()
	}
}
