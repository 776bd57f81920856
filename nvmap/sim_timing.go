package nvmap

import (
	"sync"
	"time"
)

// Timing gives the delays of a simulated medium. A zero field adds no delay to the device beneath.
type Timing struct {
	Read      time.Duration // time to the first byte of a Read, or of a batch
	ReadRate  int64         // bytes per second of all readers together; 0: no bound
	WriteRate int64         // bytes per second that the medium accepts; 0: no bound
	Fence     time.Duration // time of a fence after everything written has arrived
}

// OptaneTiming returns the timing of one module of Optane DC persistent memory, as published for
// its first generation: 346 ns for a random read, 6.6 GB/s read, 2.3 GB/s written, and 90 ns for a
// 64-byte non-temporal store with its fence.
func OptaneTiming() Timing {
	return Timing{Read: 346 * time.Nanosecond, ReadRate: 6_600_000_000, WriteRate: 2_300_000_000, Fence: 90 * time.Nanosecond}
}

// SetTiming makes the device as slow as t from now on. Writes are posted: they take their time
// while the caller continues, and a fence waits for them. Reads through the mapping are not slowed
// down; HideMapping sends all reads through Read.
func (s *Sim) SetTiming(t Timing) {
	if t == (Timing{}) {
		s.pace.Store(nil)
		return
	}
	s.pace.Store(&pace{t: t, now: time.Now, until: waitUntil})
}

// pace makes callers wait for a medium that does one thing at a time in each direction. The nil
// pace adds no delay.
type pace struct {
	t     Timing
	now   func() time.Time
	until func(time.Time)

	mu            sync.Mutex
	reads, writes time.Time // when the medium will have done all requests
}

// busy adds n bytes to the work of the medium in one direction, and returns when it will be done.
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

// read waits for the time of reading n bytes.
func (p *pace) read(n int64) {
	if p != nil {
		p.until(p.busy(&p.reads, n, p.t.ReadRate).Add(p.t.Read))
	}
}

// wrote notes that n bytes are on their way.
func (p *pace) wrote(n int64) {
	if p != nil {
		p.busy(&p.writes, n, p.t.WriteRate)
	}
}

// fence waits until all writes have arrived.
func (p *pace) fence() {
	if p != nil {
		p.until(p.busy(&p.writes, 0, 0).Add(p.t.Fence))
	}
}

// waitUntil returns at t. Short waits spin, because a processor that waits for memory cannot do
// anything else.
func waitUntil(t time.Time) {
	const coarse = 200 * time.Microsecond // sleeping is less exact than this
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
