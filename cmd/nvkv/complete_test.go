package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completions asks as the scripts of "nvkv completion" do.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(nvkv(t, append([]string{"__completeNoDesc"}, args...)...).out), "\n")
	return lines[:len(lines)-1] // the last one is the directive
}

func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, "put", "sessions.nv", "k", "v")
	for _, name := range []string{"letter.txt", "s.txt"} {
		if err := os.WriteFile(name, []byte("no store"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("stores", 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "put", filepath.Join("stores", "a"), "k", "v")
	for _, c := range []struct{ args, want string }{
		{"get,s", "sessions.nv stores/"},
		{"get,stores/", "stores/a"},
		{"count,", "sessions.nv stores/"},
		{"info,--device,d", "dax devdax"},
		{"dump,sessions.nv,--format,", "jsonl csv tsv lines"},
		{"bench ycsb,--engines,nvkv,b", "nvkv,bbolt"},
		{"bench ycsb,--workloads,a,b,", "a,b,c a,b,d a,b,e a,b,f"},
	} {
		args := strings.Split(c.args, ",")
		if before, rest, ok := strings.Cut(c.args, "s,"); ok && strings.HasPrefix(c.args, "bench") {
			args = append(strings.Split(strings.Replace(before+"s", " ", ",", 1), ","), rest)
		}
		if got := completions(t, args...); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: %q, want %q", args, got, c.want)
		}
	}
}

// TestSuggestions checks that the names which other tools use lead to ours.
func TestSuggestions(t *testing.T) {
	for name, want := range map[string]string{"ls": "scan", "list": "scan", "rm": "del", "delete": "del", "cat": "get", "set": "put", "wc": "count", "repair": "salvage", "vacuum": "compact"} {
		fails(t, exitUsage, []string{"did you mean " + want}, name)
	}
}

func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	must(t, "man", dir)
	page, err := os.ReadFile(filepath.Join(dir, "nvkv-scan.1"))
	if err != nil || !strings.Contains(string(page), ".TH") || !strings.Contains(string(page), "--prefix") && !strings.Contains(string(page), `\-\-prefix`) {
		t.Errorf("the page of scan: %v\n%s", err, page)
	}
	if pages, err := filepath.Glob(filepath.Join(dir, "*.1")); err != nil || len(pages) < 20 {
		t.Errorf("%d pages, %v", len(pages), err)
	}
}

func TestVersionFlag(t *testing.T) {
	if got, want := must(t, "--version"), must(t, "version"); got != want {
		t.Errorf("--version says %q, version %q", got, want)
	}
}
