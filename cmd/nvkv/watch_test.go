package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"nvkv/kv"
	"nvkv/nvmap"
)

// counting is a store whose counters grow by the same steps between two polls.
type counting struct {
	reader
	polls uint64
}

func (c *counting) status(context.Context) (*status, error) {
	c.polls++
	m := kv.Metrics{Keys: 12, Gets: 1000 * c.polls, Puts: 1e12 * c.polls, Checkpoints: int64(c.polls), DeviceBytes: 1 << 40, LiveBytes: 1 << 39, UsedBytes: 3 << 38,
		CacheHits: 9, CacheMisses: 1, Snapshots: 2, PinnedBytes: 1 << 30}
	h := kv.LatencyHistogram{Count: 100 * c.polls, Max: time.Second, Buckets: []kv.LatencyBucket{{Below: 2000, Count: 90 * c.polls}, {Below: 4000, Count: 10 * c.polls}}}
	return &status{Metrics: m, Latencies: kv.Latencies{OneIn: 100, Get: h}, Device: nvmap.Info{Kind: "file"}, Owner: &owner{1 << 22, strings.Repeat("long", 20), 100 * time.Hour},
		Snapshots: []kv.SnapshotInfo{{Age: time.Second, By: "main.export at " + strings.Repeat("/long", 30) + "/main.go:12"}, {Writer: true}}}, nil
}

// TestWatchPage checks that the page of stats --watch fits the terminal, and says what happened
// between two polls.
func TestWatchPage(t *testing.T) {
	v := &watcher{path: strings.Repeat("dir/", 30) + "s.nv"}
	db := &counting{}
	for range 3 {
		if err := v.poll(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	v.took = 2 * time.Second
	text := v.text(80)
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"  gets                   500       3.00k", "500000M", "3 taken", "90.0 % hits", "snapshots: 2, pinning 1.07 GB", "/main.go:12", "  get                2.00 µs     4.00 µs     4.00 µs      1.00 s\n", "a writable transaction"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	var b strings.Builder
	v.size = func() (int, int, error) { return 80, 10, nil }
	if err := v.page(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 9 {
		t.Errorf("a page of %d lines on a terminal of 10", n)
	}
	v.size = func() (int, int, error) { return 0, 0, errors.New("no terminal") }
	if err := v.page(io.Discard); err != nil {
		t.Error(err)
	}
}

func TestRate(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 7: "7", 7.25: "7.25", 309.4: "309", 999.6: "1.00k", 945_211: "945k", 1_234_567: "1.23M"} {
		if got := rate(v); got != want {
			t.Errorf("rate(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestHistory(t *testing.T) {
	var h history
	for i := range 1000 {
		h.add(float64(i))
	}
	if len(h.past) != historyMost {
		t.Errorf("%d kept, %s", len(h.past), h.bars(3))
	}
	if got := (&history{past: []float64{0, 4, 8}}).bars(10); got != "▁▄█" {
		t.Errorf("bars: %s", got)
	}
}
