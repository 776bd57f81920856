package bench

import "time"

// load measures the use of the processors by this process and by others.
type load struct {
	start        time.Time
	own, machine time.Duration
}

func startLoad() load { return load{time.Now(), cpuTime(), machineTime()} }

// clockTick is the unit of Linux's /proc/stat.
const clockTick = 10 * time.Millisecond

// othersMin is the least time after which the kernel's ticks show the use by others.
const othersMin = 50 * time.Millisecond

// into sets the figures of a run since the start.
func (l load) into(r *Run) {
	own, took := cpuTime()-l.own, time.Since(l.start)
	r.CPUSeconds = own.Seconds()
	if others := machineTime() - l.machine - own; took >= othersMin && others > clockTick {
		r.OtherCores = others.Seconds() / took.Seconds()
	}
}

// noisyCores is the use by others, in cores, above which a figure is marked.
const noisyCores = 0.25

// Noisy reports whether others disturbed the run.
func (r Run) Noisy() bool { return r.OtherCores > noisyCores }
