package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"plain/päth.nv": "plain/päth.nv", `back\slash`: `back\slash`, "\x1b[31m": `\x1b[31m`, "a\nb\tc\x7f": `a\x0ab\x09c\x7f`,
		"\xff\xfe": `\xff\xfe`, "c1\u009b": `c1\u009b`, "\u202e": `\u202e`, "\ufffd": "\ufffd", "\U000e0001": `\U000e0001`,
	} {
		if got := shown(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// TestNoCommandIsSteeredByNames checks that no output and no error shows unprintable characters of
// a file's name, which could control the terminal.
func TestNoCommandIsSteeredByNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "\x1b[31m\u009b\u202e")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "store.nv")
	text := filepath.Join(dir, "in.txt")
	if err := os.WriteFile(text, []byte("a\t1\n\\\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := "\x1b]0;title\a"
	for _, args := range [][]string{
		{"load", store, text}, {"info", store}, {"info", store, "--json"}, {"load", store, text, "--skip-bad"}, {"load", store, text, "--skip-bad", "--json"},
		{"backup", store, store + ".backup"}, {"backup", store, store + ".json", "--json"}, {"restore", store + ".backup", store + "2"}, {"restore", store + ".backup", store + "2"},
		{"compact", store}, {"compact", store, "--json"}, {"convert", "--from", "nvkv:" + store, "--to", "nvkv:" + store + "3"}, {"convert", "--json", "--from", "nvkv:" + store, "--to", "jsonl:" + store + "4"},
		{"salvage", text, store + "5"}, {"get", dir, "a"}, {"get", store + "6", "a"}, {"get", store, bad}, {"check", text}, {"scan", store, "--" + bad}, {bad}, {"help", bad},
		{"dump", store, "--format", bad}, {"convert", "--from", bad, "--to", bad}, {"scan", store, "--limit", bad}, {"get", store, "a", bad}, {"del", store, bad},
	} {
		r := nvkv(t, args...)
		if strings.ContainsAny(r.out+r.errOut, "\x1b\u009b\u202e\a") {
			t.Errorf("nvkv %q: exit %d, stdout %q, stderr %q", args, r.code, r.out, r.errOut)
		}
	}
}
