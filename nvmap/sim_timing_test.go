package nvmap

import (
	"testing"
	"time"
)

// clock is a time that passes only when a caller waits for it.
type clock struct{ at time.Time }

func (c *clock) now() time.Time      { return c.at }
func (c *clock) until(t time.Time)   { c.at = later(c.at, t) }
func later(a, b time.Time) time.Time { return map[bool]time.Time{true: a, false: b}[a.After(b)] }
func (c *clock) took() (d time.Duration) {
	d = c.at.Sub(time.Time{})
	c.at = time.Time{}
	return d
}

// slow returns a Sim of 1 MiB on the test's clock.
func slow(t *testing.T, timing Timing) (*Sim, *clock) {
	t.Helper()
	s, c := NewSim(NewMem(1<<20)), &clock{}
	if err := s.Grow(1 << 20); err != nil {
		t.Fatal(err)
	}
	s.SetTiming(timing)
	p := s.pace.Load()
	p.now, p.until = c.now, c.until
	return s, c
}

func TestTiming(t *testing.T) {
	timing := Timing{Read: 300 * time.Nanosecond, ReadRate: 4_000_000_000, WriteRate: 2_000_000_000, Fence: 100 * time.Nanosecond}
	s, c := slow(t, timing)
	page := make([]byte, PageBytes)
	want := func(what string, want time.Duration) {
		t.Helper()
		if got := c.took(); got != want {
			t.Errorf("%s took %v, not %v", what, got, want)
		}
		s.pace.Load().reads, s.pace.Load().writes = time.Time{}, time.Time{}
	}
	for range 3 {
		mustBe(t, s.Read(0, page))
	}
	want("three reads of a page, one after the other", 3*(300+1024))
	reqs := make([]PageRead, 3)
	for i := range reqs {
		reqs[i] = PageRead{Page: PageID(i), Buf: page}
	}
	mustBe(t, s.ReadBatch(reqs))
	want("three pages together", 300+3*1024)
	mustBe(t, s.Write(0, page))
	mustBe(t, s.Write(PageBytes, page))
	want("two writes, which are posted", 0)
	mustBe(t, s.Write(0, page))
	mustBe(t, s.Write(PageBytes, page))
	mustBe(t, s.Fence())
	want("two writes and a fence", 2*2048+100)
	mustBe(t, s.Write(0, page))
	c.at = c.at.Add(5000)
	mustBe(t, s.Fence())
	want("a fence when all has arrived", 5000+100)
	s.SetTiming(Timing{})
	if s.pace.Load() != nil {
		t.Error("a timing taken away is still there")
	}
}

func mustBe(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTimingWaits checks that waits take at least their time on the machine's clock.
func TestTimingWaits(t *testing.T) {
	s := NewSim(NewMem(1 << 20))
	mustBe(t, s.Grow(PageBytes))
	s.SetTiming(Timing{Read: 400 * time.Microsecond, Fence: 50 * time.Microsecond})
	began := time.Now()
	mustBe(t, s.Read(0, make([]byte, 8)))
	mustBe(t, s.Fence())
	if took := time.Since(began); took < 450*time.Microsecond {
		t.Errorf("a read of 400 us and a fence of 50 took %v", took)
	}
}

func TestOptaneTiming(t *testing.T) {
	s, c := slow(t, OptaneTiming())
	mustBe(t, s.Read(0, make([]byte, 64)))
	if got := c.took(); got < 346 || got > 400 {
		t.Errorf("a random line takes %v", got)
	}
	s.pace.Load().writes = time.Time{}
	for range 23 {
		mustBe(t, s.Write(0, make([]byte, 100_000)))
	}
	mustBe(t, s.Fence())
	if got := c.took(); got < time.Millisecond || got > time.Millisecond+time.Microsecond {
		t.Errorf("2.3 MB take %v to write", got)
	}
}
