package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestCompact(t *testing.T) {
	store := newStore(t)
	var lines strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "%05d\t%s\n", i*7919%20_000, strings.Repeat("v", 500))
	}
	mustIn(t, lines.String(), "load", store, "-", "--format", "lines")
	want := must(t, "get", store, "00042")
	var r compactResult
	if err := json.Unmarshal([]byte(must(t, "compact", store, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Keys != 20_000 || r.Moved < 10_000 || r.Before.Blocks == 0 || r.After.Blocks > 2*r.Before.Blocks {
		t.Errorf("%+v", r)
	}
	if out := must(t, "compact", store); !strings.Contains(out, " moved; ") {
		t.Errorf("reports %q", out)
	}
	if got := must(t, "get", store, "00042"); got != want {
		t.Errorf("a value changed")
	}
	must(t, "check", store)
}
