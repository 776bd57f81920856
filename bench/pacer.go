package bench

import (
	"runtime"
	"time"
)

// pacer gives each operation of a worker its intended start. Latencies count from there, even if
// the previous operation was not done by then. So a stalled engine is charged for every operation
// that it delayed, not only for one (no coordinated omission).
type pacer struct {
	start    time.Time
	offset   time.Duration // of this worker's first operation
	interval time.Duration // between two operations of this worker
	first    int           // number of the first operation
}

// sleepSlack is how much later than requested a sleep may end.
const sleepSlack = 200 * time.Microsecond

// newPacer divides target operations per second among workers, whose operations alternate.
func newPacer(start time.Time, target float64, worker, workers int) *pacer {
	gap := time.Duration(float64(time.Second) / target)
	return &pacer{start: start, offset: gap * time.Duration(worker), interval: gap * time.Duration(workers)}
}

// wait returns when operation i is due, with its due time since the start. It sleeps while that is
// far off and then spins.
func (p *pacer) wait(i int) time.Duration {
	due := p.offset + p.interval*time.Duration(i-p.first)
	for {
		early := due - time.Since(p.start)
		switch {
		case early <= 0:
			return due
		case early > sleepSlack:
			time.Sleep(early - sleepSlack)
		default:
			runtime.Gosched()
		}
	}
}
