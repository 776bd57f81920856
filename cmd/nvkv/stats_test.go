package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestStats(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	rows := map[string]string{}
	for line := range strings.Lines(must(t, "stats", store)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Errorf("no value in %q", line)
		}
		rows[name] = strings.TrimSpace(value)
	}
	if rows["keys"] != "2" {
		t.Errorf("keys: %q", rows["keys"])
	}
	for _, name := range []string{"fences", "user_bytes", "media_record_bytes", "recovery_ns"} {
		if _, ok := rows[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
}

func TestStatsJSON(t *testing.T) {
	var stats map[string]any
	if err := json.Unmarshal([]byte(must(t, "stats", newStore(t, "a", "1"), "--json")), &stats); err != nil {
		t.Fatal(err)
	}
	if stats["keys"] != 1.0 {
		t.Errorf("keys: %v", stats["keys"])
	}
}

func TestWithUnit(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int64
		want string
	}{
		{"puts", 123456, "123456"},
		{"user_bytes", 999, "999"},
		{"user_bytes", 1234567, "1234567 (1.23 MB)"},
		{"media_record_bytes", 1000, "1000 (1.00 kB)"},
		{"recovery_ns", 1500, "1500 (1.50 µs)"},
	} {
		if got := withUnit(c.name, c.n); got != c.want {
			t.Errorf("%s %d: got %q, want %q", c.name, c.n, got, c.want)
		}
	}
}
