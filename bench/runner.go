package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Runner starts the sessions of a benchmark, one process after another.
type Runner struct {
	// Command starts a process that calls Child. nil: this program with the arguments "bench
	// session".
	Command []string

	// Dir is the directory for stores. Each store gets a directory in it, which is removed
	// afterwards. "" = DefaultDir().
	Dir string

	// Stderr, if set, gets all standard error output of sessions. Errors quote only its beginning.
	Stderr io.Writer

	// Progress, if set, is called while sessions work.
	Progress func(Progress)

	// Finished, if set, is called with the runs of each repetition when it ends.
	Finished func(Run)
}

// Task is a sequence of jobs that share a fresh directory, which is removed after the last.
type Task struct {
	Name string
	Jobs []Job // Run sets their Dir
}

// DefaultDir returns /dev/shm if that is a tmpfs, else the directory for temporary files.
func DefaultDir() string {
	const shm = "/dev/shm"
	if name, _ := fileSystem(shm); name == "tmpfs" {
		return shm
	}
	return os.TempDir()
}

// Run carries out every task once per repetition: all tasks, then all of them again, so that no
// engine runs only under good conditions. A task that fails is not repeated, its steps before the
// failure count, and the other tasks continue. The error names each failure. The end of the context
// stops everything. Run returns the report of the work done even with an error.
func (r *Runner) Run(ctx context.Context, tasks []Task, repetitions int) (*Report, error) {
	dir := r.Dir
	if dir == "" {
		dir = DefaultDir()
	}
	report := &Report{Created: time.Now().UTC().Truncate(time.Second), Machine: DescribeMachine(dir)}
	failures := make([]error, len(tasks))
	for rep := 1; rep <= repetitions && ctx.Err() == nil; rep++ {
		for i, task := range tasks {
			if failures[i] != nil || ctx.Err() != nil {
				continue
			}
			runs, err := r.task(ctx, dir, task, rep)
			report.Raw = append(report.Raw, runs...)
			if err != nil && ctx.Err() == nil {
				failures[i] = fmt.Errorf("%s, repetition %d: %w", task.Name, rep, err)
			}
		}
	}
	report.Runs = medians(report.Raw)
	if cause := context.Cause(ctx); cause != nil {
		return report, fmt.Errorf("bench: stopped before the end: %w", cause)
	}
	return report, errors.Join(failures...)
}

func (r *Runner) task(ctx context.Context, dir string, task Task, rep int) (runs []Run, err error) {
	store, err := os.MkdirTemp(dir, "nvkv-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	var acked uint64
	for _, job := range task.Jobs {
		job.Dir = store
		for i := range job.Steps {
			if job.Steps[i].Kind == StepAcked {
				job.Steps = append([]Step(nil), job.Steps...)
				job.Steps[i].Acked = acked
			}
		}
		got, n, err := r.session(ctx, &job, rep)
		runs = append(runs, got...)
		if err != nil {
			return runs, err
		}
		acked = n
	}
	return runs, nil
}

// killAfter is the time after which a doomed session that has begun to write is killed.
const killAfter = 300 * time.Millisecond

// session carries out one job in a process. It kills a doomed session while that writes; acked is
// then its number of acknowledged operations.
func (r *Runner) session(ctx context.Context, job *Job, rep int) (runs []Run, acked uint64, err error) {
	c, err := startChild(ctx, r.command(), job, r.Stderr)
	if err != nil {
		return nil, 0, err
	}
	doomed := len(job.Steps) > 0 && job.Steps[len(job.Steps)-1].Kind == StepDoomed
	var writing time.Time
	killed := false
	err = c.wait(func(e event) {
		switch {
		case e.Run != nil:
			e.Run.Repetition = rep
			runs = append(runs, *e.Run)
			if r.Finished != nil {
				r.Finished(*e.Run)
			}
		case e.Progress != nil && r.Progress != nil:
			r.Progress(*e.Progress)
		case e.Acked > 0:
			acked = e.Acked
			if writing.IsZero() {
				writing = time.Now()
			}
			if doomed && !killed && time.Since(writing) > killAfter {
				killed = true
				c.cmd.Process.Kill()
			}
		}
	})
	if job.Map != nil {
		sweepGroup(c.cmd.Process.Pid)
	}
	if killed {
		err = nil
	}
	return runs, acked, err
}

func (r *Runner) command() []string {
	if r.Command != nil {
		return r.Command
	}
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return []string{self, "bench", "session"}
}

// RunCount returns the largest number of runs in a repetition of the tasks.
func RunCount(tasks []Task) int {
	n := 0
	for _, task := range tasks {
		for _, job := range task.Jobs {
			n += len(job.Steps)
			if job.Floor {
				n += floorCount
			}
			if job.Map != nil {
				n += len(mapTests)
			}
			if job.Stall != nil {
				n++
			}
		}
	}
	return n
}
