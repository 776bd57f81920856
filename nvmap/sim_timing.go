package nvmap

import (
	"sync"
	"time"
)

// Timing is how long a simulated medium takes. What it does not name takes no
// longer than the device beneath.
type Timing struct {
	Read      time.Duration // until the first byte of a Read, or of all the pages of a batch, is there
	ReadRate  int64         // bytes per second that can be read, by all readers together; 0: no bound
	WriteRate int64         // bytes per second that the medium takes; 0: no bound
	Fence     time.Duration // a fence, from when everything written has arrived
}

// OptaneTiming is one module of Optane DC persistent memory, as published for
// its first generation: 346 ns for a random read, 6.6 GB/s read, 2.3 GB/s
// written, and 90 ns for a 64-byte non-temporal store with its fence.
func OptaneTiming() Timing {
	return Timing{Read: 346 * time.Nanosecond, ReadRate: 6_600_000_000, WriteRate: 2_300_000_000, Fence: 90 * time.Nanosecond}
}

// SetTiming makes the device as slow as t from now on. Writes are posted: they
// take their time while the caller goes on, and a fence waits for them. What is
// read in the mapping costs what it costs: HideMapping sends all reads through
// Read.
func (s *Sim) SetTiming(t Timing) {
	if t == (Timing{}) {
		s.pace.Store(nil)
		return
	}
	s.pace.Store(&pace{t: t, now: time.Now, until: waitUntil})
}

// pace makes callers wait for a medium that does one thing at a time in each
// direction. The nil pace makes nobody wait.
type pace struct {
	t     Timing
	now   func() time.Time
	until func(time.Time)

	mu            sync.Mutex
	reads, writes time.Time // when the medium is through with what it was asked for
}

// busy adds n bytes to what the medium has to do in one direction.
func (p *pace) busy(free *time.Time, n, rate int64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); free.Before(now) {
		*free = now
	}
	if rate > 0 {
		*free = free.Add(time.Duration(float64(n) / float64(rate) * 1e9))
	}
	return *free
}

// read waits as long as reading n bytes takes.
func (p *pace) read(n int64) {
	if p != nil {
		p.until(p.busy(&p.reads, n, p.t.ReadRate).Add(p.t.Read))
	}
}

// wrote notes n bytes on their way.
func (p *pace) wrote(n int64) {
	if p != nil {
		p.busy(&p.writes, n, p.t.WriteRate)
	}
}

// fence waits until what was written has arrived.
func (p *pace) fence() {
	if p != nil {
		p.until(p.busy(&p.writes, 0, 0).Add(p.t.Fence))
	}
}

// waitUntil returns at t: a processor that waits for memory is not free for
// anything else, so short waits spin.
func waitUntil(t time.Time) {
	const coarse = 200 * time.Microsecond // no sleep is more exact
	for {
		left := time.Until(t)
		if left <= 0 {
			return
		}
		if left > coarse {
			time.Sleep(left - coarse)
		}
	}
}
