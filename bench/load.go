package bench

import "time"

// load tells what this process and the others use of the processors.
type load struct {
	start        time.Time
	own, machine time.Duration
}

func startLoad() load { return load{time.Now(), cpuTime(), machineTime()} }

// clockTick is the unit of Linux's /proc/stat.
const clockTick = 10 * time.Millisecond

// othersMin is how long one has to look before the kernel's ticks tell what
// others do.
const othersMin = 50 * time.Millisecond

// into fills in what was used since the start.
func (l load) into(r *Run) {
	own, took := cpuTime()-l.own, time.Since(l.start)
	r.CPUSeconds = own.Seconds()
	if others := machineTime() - l.machine - own; took >= othersMin && others > clockTick {
		r.OtherCores = others.Seconds() / took.Seconds()
	}
}

// noisyCores is what others may use of the machine before a figure is marked.
const noisyCores = 0.25

// Noisy reports whether others disturbed the run.
func (r Run) Noisy() bool { return r.OtherCores > noisyCores }
