package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nvkv/kv"
)

// watch shows the counters of a store that another process has open, for every interval, until ctx
// ends.
func watch(cmd *cobra.Command, db reader, path string, every time.Duration, asJSON bool) error {
	if _, running := db.(*remote); !running {
		return errors.New("nothing to watch: no process that answers has the store open; one does if it sets Options.Socket")
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	v := &watcher{path: path, every: every}
	show := v.line
	switch {
	case asJSON:
		show = v.object
	case isTerminal(out):
		show = v.page
		v.color = os.Getenv("NO_COLOR") == ""
		if f, ok := out.(*os.File); ok {
			v.size = func() (int, int, error) { return term.GetSize(int(f.Fd())) }
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := v.poll(ctx, db); errors.Is(err, errInterrupted) {
			return nil // it has shown what it was asked for
		} else if err != nil {
			return err
		}
		if v.polls > 1 {
			if err := show(out); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watcher turns counters into rates.
type watcher struct {
	path      string
	every     time.Duration
	color     bool
	size      func() (width, height int, err error)
	polls     int
	lines     int
	at        time.Time
	took      time.Duration // between the last two polls
	last, now *status
	gets      history
	puts      history
}

func (v *watcher) poll(ctx context.Context, db reader) error {
	st, err := db.status(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	v.last, v.now, v.took, v.at = v.now, st, at.Sub(v.at), at
	if v.polls++; v.polls > 1 {
		r := v.rates()
		v.gets.add(r.Gets)
		v.puts.add(r.Puts + r.Deletes)
	}
	return nil
}

// rates are what a store did in an interval, per second. It is the output of --json with a line for
// every interval.
type rates struct {
	Time           time.Time `json:"time"`
	Gets           float64   `json:"gets_per_s"`
	Puts           float64   `json:"puts_per_s"`
	Deletes        float64   `json:"deletes_per_s"`
	Commits        float64   `json:"commits_per_s"`
	Fences         float64   `json:"fences_per_s"`
	UserBytes      float64   `json:"user_bytes_per_s"`
	MediaBytes     float64   `json:"media_bytes_per_s"`
	EvacuatedBytes float64   `json:"evacuated_bytes_per_s"`
	Expired        float64   `json:"expired_per_s"`
	Checkpoints    int64     `json:"checkpoints"` // in the interval
	Hits           float64   `json:"cache_hits_per_s"`
	Misses         float64   `json:"cache_misses_per_s"`
	Evictions      float64   `json:"cache_evictions_per_s"`
	Keys           int64     `json:"keys"`
	LiveBytes      int64     `json:"live_bytes"`
	DeviceBytes    int64     `json:"device_bytes"`
	Snapshots      int       `json:"snapshots"`
	PinnedBytes    int64     `json:"pinned_bytes"`
}

func (v *watcher) rates() rates {
	a, b, s := &v.last.Metrics, &v.now.Metrics, v.took.Seconds()
	per := func(before, now uint64) float64 { return float64(now-min(before, now)) / s }
	return rates{
		Time: v.at, Gets: per(a.Gets, b.Gets), Puts: per(a.Puts, b.Puts), Deletes: per(a.Deletes, b.Deletes), Commits: per(a.Commits, b.Commits),
		Fences: per(a.Fences, b.Fences), UserBytes: per(a.UserBytes, b.UserBytes), MediaBytes: per(a.MediaBytes, b.MediaBytes),
		EvacuatedBytes: per(a.EvacuatedBytes, b.EvacuatedBytes), Expired: per(a.Expired, b.Expired), Checkpoints: b.Checkpoints - a.Checkpoints,
		Hits: per(a.CacheHits, b.CacheHits), Misses: per(a.CacheMisses, b.CacheMisses), Evictions: per(a.CacheEvictions, b.CacheEvictions),
		Keys: b.Keys, LiveBytes: b.LiveBytes, DeviceBytes: b.DeviceBytes, Snapshots: b.Snapshots, PinnedBytes: b.PinnedBytes,
	}
}

// object writes the interval as an object of JSON in one line.
func (v *watcher) object(w io.Writer) error { return json.NewEncoder(w).Encode(v.rates()) }

// line writes the interval as a row of a table, with the head again after 20 rows.
func (v *watcher) line(w io.Writer) error {
	if v.lines%20 == 0 {
		fmt.Fprintf(w, "%9s %9s %9s %9s %9s %9s %5s %9s\n", "gets/s", "puts/s", "dels/s", "fences/s", "written/s", "live", "snaps", "since cp")
	}
	v.lines++
	r := v.rates()
	_, err := fmt.Fprintf(w, "%9s %9s %9s %9s %9s %9s %5d %9s\n", rate(r.Gets), rate(r.Puts), rate(r.Deletes), rate(r.Fences),
		size(int64(r.MediaBytes)), size(r.LiveBytes), r.Snapshots, size(v.now.Metrics.SinceCheckpoint))
	return err
}

// rate formats operations per second with three digits: 945k.
func rate(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1000:
		return fmt.Sprint(int64(v))
	case v < 999.5:
		return threeDigits(v)
	case v < 999_500:
		return threeDigits(v/1e3) + "k"
	}
	return threeDigits(v/1e6) + "M"
}

// page shows the interval on a terminal, over the page before.
func (v *watcher) page(w io.Writer) error {
	width, height := 80, 24
	if v.size != nil {
		if x, y, err := v.size(); err == nil && x > 0 && y > 0 {
			width, height = x, y
		}
	}
	text := v.text(width)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) >= height {
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	}
	lines = lines[:min(len(lines), height-1)]
	var b strings.Builder
	if v.polls == 2 {
		b.WriteString("\x1b[2J")
	}
	b.WriteString("\x1b[H")
	for _, l := range lines {
		b.WriteString(l + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(w, b.String())
	return err
}

// text returns the page, in lines of at most width columns.
func (v *watcher) text(width int) string {
	var b strings.Builder
	put := func(format string, args ...any) {
		b.WriteString(clipped(strings.TrimRight(fmt.Sprintf(format, args...), " "), width) + "\n")
	}
	head := func(text string) {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		if v.color {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
		b.WriteString(text + "\n")
	}
	m, r, o := &v.now.Metrics, v.rates(), v.now.Owner
	head(clipped(fmt.Sprintf("%s  process %d (%s), open for %v", shown(v.path), o.Pid, shown(o.Command), o.age()), width))
	put("  %s  %s on %s", v.at.Format(time.TimeOnly), plural(m.Keys, "key"), v.now.Device.Kind)
	head("operations          a second      in all")
	for _, row := range []struct {
		name  string
		rate  float64
		total uint64
		past  *history
	}{
		{"gets", r.Gets, m.Gets, &v.gets}, {"puts", r.Puts, m.Puts, &v.puts}, {"deletes", r.Deletes, m.Deletes, nil},
		{"expired", r.Expired, m.Expired, nil}, {"commits", r.Commits, m.Commits, nil}, {"fences", r.Fences, m.Fences, nil},
	} {
		put("  %-16s  %8s  %10s  %s", row.name, rate(row.rate), rate(float64(row.total)), row.past.bars(max(0, width-44)))
	}
	if l := &v.now.Latencies; l.OneIn > 0 {
		head("latency                  p50         p99       p99.9         max")
		before := map[string]kv.LatencyHistogram{}
		eachLatency(&v.last.Latencies, func(name string, h kv.LatencyHistogram) { before[name] = h })
		eachLatency(l, func(name string, h kv.LatencyHistogram) {
			i := lately(before[name], h)
			if i.Count == 0 {
				put("  %-16s  none in this interval                  %8s", name, span(h.Max))
				return
			}
			put("  %-16s  %8s    %8s    %8s    %8s", name, span(i.Quantile(0.5)), span(i.Quantile(0.99)), span(i.Quantile(0.999)), span(h.Max))
		})
	}
	head("bytes               a second      in all")
	put("  %-16s  %8s  %10s", "from the user", size(int64(r.UserBytes)), size(m.UserBytes))
	put("  %-16s  %8s  %10s  %.2f per byte of the user", "to the medium", size(int64(r.MediaBytes)), size(m.MediaBytes), m.WriteAmp)
	put("  %-16s  %8s  %10s  %s", "evacuated", size(int64(r.EvacuatedBytes)), size(m.EvacuatedBytes), plural(m.EvacuatedRecords, "record"))
	if m.CacheHits+m.CacheMisses > 0 {
		put("  cache %.1f %% hits, %s misses/s, %s evictions/s", 100*float64(m.CacheHits)/float64(m.CacheHits+m.CacheMisses), rate(r.Misses), rate(r.Evictions))
	}
	head("space")
	bar := max(10, width-60)
	put("  %-16s  %8s  %s", "store", size(m.DeviceBytes), spaceBar(m, bar))
	put("  %-16s  %8s  %-16s %8s  given back %8s", "live", size(m.LiveBytes), "DRAM for pages", size(m.FrameBytes), size(m.DiscardedBytes))
	put("  %-16s  %8s  %-16s %8s", "free", size(m.FreeBytes), "of these dirty", size(m.DirtyFrameBytes))
	head("checkpoints")
	mean := time.Duration(0)
	if m.Checkpoints > 0 {
		mean = m.CheckpointTime / time.Duration(m.Checkpoints)
	}
	put("  %s taken, the last in %s, mean %s; %s written since", count(m.Checkpoints), span(m.LastCheckpoint), span(mean), size(m.SinceCheckpoint))
	head(fmt.Sprintf("snapshots: %d, pinning %s", m.Snapshots, size(m.PinnedBytes)))
	for _, h := range v.now.Snapshots {
		put("  %8s  %9s  %s", span(h.Age), size(h.PinnedBytes), shortHolder(h, width-23))
	}
	return b.String()
}

// lately returns the calls that now counts and before does not. Its Max is that of all calls.
func lately(before, now kv.LatencyHistogram) kv.LatencyHistogram {
	was := map[time.Duration]uint64{}
	for _, b := range before.Buckets {
		was[b.Below] = b.Count
	}
	out := kv.LatencyHistogram{Max: now.Max}
	for _, b := range now.Buckets {
		if n := b.Count - min(b.Count, was[b.Below]); n > 0 {
			out.Buckets = append(out.Buckets, kv.LatencyBucket{Below: b.Below, Count: n})
			out.Count += n
		}
	}
	return out
}

// shortHolder returns the end of a holder's name, which says most.
func shortHolder(h kv.SnapshotInfo, most int) string {
	name := []rune(holderOf(h))
	if len(name) > most && most > 1 {
		return "…" + string(name[len(name)-most+1:])
	}
	return string(name)
}

// spaceBar draws how much of the store is live, used and free.
func spaceBar(m *kv.Metrics, width int) string {
	if m.DeviceBytes <= 0 {
		return ""
	}
	cells := func(n int64) int { return int(min(max(n, 0), m.DeviceBytes) * int64(width) / m.DeviceBytes) }
	live, used := cells(m.LiveBytes), cells(max(m.UsedBytes, m.LiveBytes))
	return strings.Repeat("█", live) + strings.Repeat("▒", used-live) + strings.Repeat("·", width-used) + "  █ live ▒ held · rest"
}

// clipped returns text in at most width columns, for text without wide characters.
func clipped(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width-1)]) + "…"
}

// history is a rate over the last intervals.
type history struct{ past []float64 }

const historyMost = 512

func (h *history) add(v float64) {
	h.past = append(h.past, v)
	if len(h.past) > historyMost {
		h.past = h.past[len(h.past)-historyMost:]
	}
}

// bars draws the newest rates in width columns, relative to the largest of them.
func (h *history) bars(width int) string {
	if h == nil || width <= 0 {
		return ""
	}
	past := h.past[max(0, len(h.past)-width):]
	most := 0.0
	for _, v := range past {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range past {
		i := 0
		if most > 0 {
			i = int(v / most * 7)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[min(max(i, 0), 7)])
	}
	return b.String()
}
