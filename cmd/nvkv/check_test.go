package main

import (
	"encoding/json"
	"os"
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

// TestCheckOfWhatDoesNotOpen checks that every fault that a salvage finds in a store that does not
// open is reported.
func TestCheckOfWhatDoesNotOpen(t *testing.T) {
	store := newStore(t, "a", "first value", "b", "second value", "c", "third value")
	rot(t, store, "second value")
	image, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	clear(image[4096:12288]) // both copies of a superblock
	if err := os.WriteFile(store, image, 0o600); err != nil {
		t.Fatal(err)
	}
	r := nvkv(t, "check", store)
	if r.code != exitFailed || !strings.Contains(r.out, "superblock") || !strings.Contains(r.out, `"b"`) || !strings.Contains(r.errOut, "nvkv salvage "+store) || strings.Count(r.errOut, "\n") != 1 {
		t.Errorf("got %+v", r)
	}
	var found checkResult
	if err := json.Unmarshal([]byte(nvkv(t, "check", store, "--json").out), &found); err != nil || len(found.Issues) < 2 {
		t.Errorf("as JSON: %+v, %v", found, err)
	}
}
