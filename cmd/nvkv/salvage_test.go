package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nvkv/kv"
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

// rescues runs a salvage that must lose nothing and report the damage.
func rescues(t *testing.T, store, out string) string {
	t.Helper()
	r := nvkv(t, "salvage", store, out)
	if r.code != exitDone || !strings.Contains(r.errOut, "superblock") || !strings.Contains(r.errOut, "0 keys lost") {
		t.Fatalf("salvage %s %s: %+v", store, out, r)
	}
	return r.out
}

// TestSalvageLeavesNothing checks that a failed salvage leaves no files, so that it can be run
// again.
func TestSalvageLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	letter := newFile(t, "letter.txt", strings.Repeat("Dear reader, ", 10_000))
	locked := newStore(t, "a", "1")
	db, err := kv.Open(locked, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := newStore(t, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, out := range []string{"out.nv", "out.jsonl"} {
		out = filepath.Join(dir, out)
		for _, from := range []string{filepath.Join(dir, "absent"), letter, locked, dir} {
			fails(t, exitFailed, []string{from}, "salvage", from, out)
		}
		if r := nvkvContext(ctx, "", "salvage", store, out); r.code != exitFailed || !strings.Contains(r.errOut, "interrupted") {
			t.Errorf("interrupted: %+v", r)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSalvageOfACutStore checks that the lost keys of a truncated store are counted.
func TestSalvageOfACutStore(t *testing.T) {
	store := newStore(t)
	mustIn(t, numbered(20_000), "load", store, "-", "--format", "lines")
	fi, err := os.Stat(store)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(store, fi.Size()/2); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.nv")
	r := nvkv(t, "salvage", store, out)
	var rescued, strays, lost int
	last := r.errOut[strings.LastIndex(strings.TrimSpace(r.errOut), "\n")+1:]
	if _, err := fmt.Sscanf(strings.ReplaceAll(last, ",", ""), "nvkv salvage: "+store+": %d keys could", &lost); err != nil || r.code != exitFailed || lost == 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	for line := range strings.Lines(strings.ReplaceAll(r.errOut, ",", "")) {
		fmt.Sscanf(line, "rescued %d records by the index and %d without it", &rescued, &strays)
	}
	if n := strings.Count(must(t, "scan", out), "\n"); n != rescued+strays || n+lost != 20_000 || n == 0 {
		t.Errorf("%d keys are there; %+v", n, r)
	}
}

// TestCopiesHaveTheirSourcesMode checks that copies have the permissions of their source, whatever
// the umask.
func TestCopiesHaveTheirSourcesMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, mode := range []os.FileMode{0o600, 0o640, 0o666} {
		store, dir := newStore(t, "a", "1"), t.TempDir()
		check := func(path string, want os.FileMode) {
			t.Helper()
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
				t.Errorf("%s of a source of %v: %v, %v; want %v", path, mode, fi.Mode(), err, want)
			}
		}
		check(store, 0o600) // made by put
		if err := os.Chmod(store, mode); err != nil {
			t.Fatal(err)
		}
		must(t, "backup", store, dir+"/backup")
		check(dir+"/backup", mode)
		must(t, "restore", dir+"/backup", dir+"/restored")
		check(dir+"/restored", mode)
		for _, out := range []string{"/s.nv", "/s.jsonl"} {
			nvkv(t, "salvage", store, dir+out)
			check(dir+out, mode)
		}
		for _, to := range []string{"nvkv:/c.nv", "jsonl:/c.jsonl", "csv:/c.csv", "bbolt:/c.db/b", "pebble:/c"} {
			name, path, _ := strings.Cut(to, ":")
			must(t, "convert", "--from", "nvkv:"+store, "--to", name+":"+dir+path)
			switch name {
			case "pebble":
				check(dir+path, mode|mode&0o444>>2)
			default:
				check(strings.TrimSuffix(dir+path, "/b"), mode)
			}
		}
		must(t, "convert", "--from", "pebble:"+dir+"/c", "--to", "nvkv:"+dir+"/d.nv")
		check(dir+"/d.nv", mode)
	}
}
