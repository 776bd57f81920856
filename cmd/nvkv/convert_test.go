package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/compat/convert"
)

func TestConvertHelp(t *testing.T) {
	golden(t, "help/convert.txt", must(t, "convert", "--help"))
}

// TestConvertEveryPair converts from each kind of store to each other. Each result must have the
// same "nvkv dump".
func TestConvertEveryPair(t *testing.T) {
	dir := t.TempDir()
	origin := newStore(t, "a", "1", "\xff\x00bytes", "\xfe", "empty value", "", "text", "line\nline\ttab")
	want := must(t, "dump", origin)
	stores := []string{"nvkv:" + dir + "/a.nv", "bbolt:" + dir + "/a.db/bucket", "pebble:" + dir + "/a.pebble",
		"jsonl:" + dir + "/a.jsonl", "csv:" + dir + "/a.csv", "tsv:" + dir + "/a.tsv", "lines:" + dir + "/a.txt"}
	for _, store := range stores {
		must(t, "convert", "--from", "nvkv:"+origin, "--to", store)
	}
	for i, from := range stores {
		for j, to := range stores {
			if i == j {
				continue
			}
			must(t, "convert", "--force", "--from", from, "--to", to)
			back := filepath.Join(dir, fmt.Sprintf("%d-%d.nv", i, j))
			must(t, "convert", "--from", to, "--to", "nvkv:"+back)
			if got := must(t, "dump", back); got != want {
				t.Errorf("%s to %s: %q, want %q", from, to, got, want)
			}
		}
	}
}

func TestConvertResult(t *testing.T) {
	store := newStore(t, "a", "1", "bb", "22")
	dir := t.TempDir()
	out := must(t, "convert", "--from", "nvkv:"+store, "--to", "pebble:"+dir+"/p")
	for _, want := range []string{"2 entries, 3 B of keys and 3 B of values", "nvkv:" + store, "pebble:" + dir + "/p", "sha256 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q does not say %q", out, want)
		}
	}
	var results [2]convert.Result
	for i, to := range []string{"nvkv:" + dir + "/n", "bbolt:" + dir + "/b/bucket"} {
		out := must(t, "convert", "--json", "--from", "nvkv:"+store, "--to", to)
		if err := json.Unmarshal([]byte(out), &results[i]); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
	}
	if results[0].Entries != 2 || results[0].Checksum != results[1].Checksum || len(results[0].Checksum) != 64 {
		t.Errorf("results %+v", results)
	}
}

func TestConvertStandardInput(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store.nv")
	mustIn(t, `{"key":"b","value":"2"}`+"\n"+`{"key":"a","value":"1"}`, "convert", "--from", "jsonl:-", "--to", "nvkv:"+store)
	if got := must(t, "scan", store); got != "a\t1\nb\t2\n" {
		t.Errorf("got %q", got)
	}
}

func TestConvertBadInput(t *testing.T) {
	store := newStore(t, "a", "1", "", "the empty key")
	bad := newFile(t, "in.jsonl", `{"key":"a","value":"1"}
{"key":"b"}
`)
	twice := newFile(t, "in.txt", "a\t1\na\t2\n")
	existing := newFile(t, "exists", "precious")
	dir := t.TempDir()
	for _, c := range []struct {
		code     int
		from, to string
		says     string
	}{
		{exitUsage, "redis:x", "nvkv:x", `unknown format "redis"`},
		{exitUsage, "nvkv:" + store, "somewhere", "not FORMAT:PATH"},
		{exitUsage, "nvkv:" + store, "jsonl:-", "nvkv dump"},
		{exitFailed, "nvkv:" + dir + "/absent", "nvkv:" + dir + "/to", "absent"},
		{exitFailed, "nvkv:" + existing, "nvkv:" + dir + "/to", existing},
		{exitFailed, "nvkv:" + store, "nvkv:" + existing, existing},
		{exitFailed, "nvkv:" + store, "nvkv:" + dir + "/no/such", dir + "/no"},
		{exitFailed, "jsonl:" + bad, "nvkv:" + dir + "/to", bad + ":2: no field"},
		{exitFailed, "lines:" + twice, "nvkv:" + dir + "/to", "twice"},
		{exitFailed, "nvkv:" + store, "pebble:" + dir + "/to", "empty key"},
		{exitFailed, "nvkv:" + store, "bbolt:" + dir + "/to", "in no bucket"},
	} {
		fails(t, c.code, []string{c.says}, "convert", "--from", c.from, "--to", c.to)
	}
	fails(t, exitFailed, []string{store, "--force"}, "convert", "--from", "lines:"+existing, "--to", "nvkv:"+store)
	fails(t, exitUsage, []string{"required", "from"}, "convert", "--to", "nvkv:x")
	fails(t, exitUsage, []string{"--device"}, "convert", "--device", "mem", "--from", "nvkv:"+store, "--to", "nvkv:"+dir+"/to")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("failed conversions left %v, %v", left, err)
	}
	must(t, "convert", "--empty-key", "00ff", "--from", "nvkv:"+store, "--to", "pebble:"+dir+"/to")
}

func TestConvertProgressOnTerminal(t *testing.T) {
	file := newFile(t, "in.txt", numbered(20_000))
	got := onTerminal(t, "convert", "--from", "lines:"+file, "--to", "nvkv:"+t.TempDir()+"/to.nv")
	for _, want := range []string{"copy", "verify", "20,000 entries"} {
		if !strings.Contains(got, want) {
			t.Errorf("the terminal shows %q, not %q", got, want)
		}
	}
}
