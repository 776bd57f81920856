package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSalvage(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2", "c", strings.Repeat("v", 100_000))
	image, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	clear(image[4096:8192]) // a copy of a superblock, and its twin
	clear(image[8192:12288])
	if err := os.WriteFile(store, image, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, exitFailed, []string{"superblock"}, "get", store, "a")
	dir := t.TempDir()
	again := filepath.Join(dir, "again.nv")
	rescues(t, store, again)
	lines := filepath.Join(dir, "again.jsonl")
	rescues(t, store, lines)
	want := must(t, "dump", again)
	if got, err := os.ReadFile(lines); err != nil || string(got) != want {
		t.Errorf("lines of %d bytes, %v; the store dumps %d", len(got), err, len(want))
	}
	if got := rescues(t, store, "-"); got != want || strings.Count(got, "\n") != 3 {
		t.Errorf("to standard output: %.200q", got)
	}
	fails(t, exitFailed, []string{"exists already"}, "salvage", store, again)
	fails(t, exitFailed, []string{lines, "no record can be told"}, "salvage", lines, "-")
}

// rescues runs a salvage that loses nothing and says what is wrong.
func rescues(t *testing.T, store, out string) string {
	t.Helper()
	r := nvkv(t, "salvage", store, out)
	if r.code != exitDone || !strings.Contains(r.errOut, "superblock") || !strings.Contains(r.errOut, "0 keys lost") {
		t.Fatalf("salvage %s %s: %+v", store, out, r)
	}
	return r.out
}
