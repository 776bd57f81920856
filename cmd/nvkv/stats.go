package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newStatsCmd(g *globals) *cobra.Command {
	var (
		asJSON, watched bool
		every           time.Duration
	)
	cmd := &cobra.Command{
		Use:        "stats STORE",
		SuggestFor: []string{"metrics", "top", "watch"},
		Short:      "Print the counters of the engine, or watch them",
		Long: `Prints the counters of the engine, and the open snapshots. If a process that
sets Options.Socket has the store open, the counters are its own, and count
since it opened the store. Otherwise this command opens the store, so that only
what it says about sizes and the recovery is about the store.

With --watch it shows what such a process does, until it is interrupted or the
process closes the store: on a terminal as a page, elsewhere one line, or with
--json one object, for every interval.`,
		Example: `  nvkv stats store.nv
  nvkv stats store.nv --json
  nvkv stats store.nv --watch
  nvkv stats store.nv --watch --every 5s --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.Flags().BoolVarP(&watched, "watch", "w", false, "show what the process that has the store open does")
	cmd.Flags().DurationVar(&every, "every", time.Second, "`DURATION` of an interval of --watch")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if every < 10*time.Millisecond {
			return usagef("--every %v: want 10ms or more", every)
		}
		return g.read(cmd, args[0], nil, func(db reader) error {
			if watched {
				return watch(cmd, db, args[0], every, asJSON)
			}
			st, err := db.status(cmd.Context())
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), st.json())
			}
			return printStats(cmd.OutOrStdout(), st)
		})
	}
	return cmd
}

// statsResult is the output of --json.
type statsResult struct {
	kv.Metrics
	Open  []kv.SnapshotInfo `json:"open_snapshots"`
	Owner *owner            `json:"opened_by,omitempty"`
	Times *kv.Latencies     `json:"latencies,omitempty"`
}

func (s *status) json() statsResult {
	r := statsResult{Metrics: s.Metrics, Open: s.Snapshots, Owner: s.Owner}
	if s.Latencies.OneIn > 0 {
		r.Times = &s.Latencies
	}
	return r
}

// eachLatency calls fn for the kinds of calls that were timed.
func eachLatency(l *kv.Latencies, fn func(name string, h kv.LatencyHistogram)) {
	for _, k := range []struct {
		name string
		h    kv.LatencyHistogram
	}{{"get", l.Get}, {"put", l.Put}, {"delete", l.Delete}, {"batch", l.Write}, {"commit", l.Commit}} {
		if k.h.Count > 0 {
			fn(k.name, k.h)
		}
	}
}

func printStats(w io.Writer, s *status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if o := s.Owner; o != nil {
		fmt.Fprintf(t, "opened_by\tprocess %d (%s), %s ago\n", o.Pid, shown(o.Command), o.age())
	}
	printFields(t, "", reflect.ValueOf(s.Metrics))
	if err := t.Flush(); err != nil {
		return err
	}
	var err error
	eachLatency(&s.Latencies, func(name string, h kv.LatencyHistogram) {
		if err == nil {
			_, err = fmt.Fprintf(w, "latency of %-6s  p50 %s, p99 %s, p99.9 %s, max %s\n", name, span(h.Quantile(0.5)), span(h.Quantile(0.99)), span(h.Quantile(0.999)), span(h.Max))
		}
	})
	if err != nil {
		return err
	}
	for _, h := range s.Snapshots {
		if _, err := fmt.Fprintf(w, "snapshot  %s old, pins %s, by %s\n", span(h.Age), size(h.PinnedBytes), holderOf(h)); err != nil {
			return err
		}
	}
	return nil
}

// age returns how long the owner has had the store open, in whole seconds.
func (o *owner) age() time.Duration { return o.OpenFor.Round(time.Second) }

// holderOf names who opened a snapshot.
func holderOf(h kv.SnapshotInfo) string {
	switch {
	case h.Writer:
		return "a writable transaction"
	case h.By == "":
		return "unknown"
	}
	return shown(h.By)
}

// printFields writes a row for every exported field of a struct, under its JSON name, including
// fields of nested structs.
func printFields(w io.Writer, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		if f := v.Field(i); f.Kind() == reflect.Struct {
			printFields(w, prefix+name+".", f)
		} else {
			fmt.Fprintf(w, "%s%s\t%s\n", prefix, name, statValue(prefix+name, f))
		}
	}
}

// statValue formats a number exactly and, if its name gives the unit, also in readable form.
func statValue(name string, v reflect.Value) string {
	switch {
	case v.CanInt():
		return withUnit(name, v.Int())
	case v.CanUint():
		return withUnit(name, int64(v.Uint()))
	case v.CanFloat():
		return fmt.Sprintf("%.3g", v.Float())
	}
	p, err := json.Marshal(v.Interface())
	if err != nil {
		return err.Error()
	}
	return string(p)
}

func withUnit(name string, n int64) string {
	switch {
	case strings.HasSuffix(name, "_ns") && n >= 1000:
		return fmt.Sprintf("%d (%s)", n, span(time.Duration(n)))
	case strings.Contains(name, "_bytes") && n >= 1000:
		return fmt.Sprintf("%d (%s)", n, size(n))
	}
	return fmt.Sprint(n)
}
