package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	if out := must(t, "check", store); !strings.HasPrefix(out, "nothing wrong: 2 keys checked in ") {
		t.Errorf("got %q", out)
	}
	var r checkResult
	if err := json.Unmarshal([]byte(must(t, "check", store, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Keys != 2 || r.Issues == nil || len(r.Issues) > 0 {
		t.Errorf("got %+v", r)
	}
}
