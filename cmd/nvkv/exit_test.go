package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnknownNames checks that an unknown command, topic or kind of device is a usage error, at any
// place, with our own text.
func TestUnknownNames(t *testing.T) {
	store := newStore(t, "a", "1")
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"bench", "ycbs"}, []string{`unknown command "ycbs" for "nvkv bench"`, "did you mean ycsb?"}},
		{[]string{"completion", "tcsh"}, []string{`unknown command "tcsh"`}},
		{[]string{"help", "nosuch"}, []string{`unknown command "nosuch"`}},
		{[]string{"help", "bench", "ycbs"}, []string{`unknown command "ycbs"`}},
		{[]string{"help", "get", "x"}, []string{`unknown command "x"`}},
		{[]string{"get", store, "a", "--device", "foo"}, []string{"--device", "foo", deviceKindList}},
		{[]string{"put", store, "a", "2", "--device", "mem"}, []string{"--device", "keeps nothing"}},
		{[]string{"version", "--device", "foo"}, []string{"--device"}},
		{[]string{"scan", store, "--limit", "x"}, []string{`--limit "x": not a whole number from 0 on`}},
		{[]string{"load", store, "-", "--batch", "99999999999999999999"}, []string{`--batch "99999999999999999999": too large`}},
		{[]string{"bench", "ycsb", "--time", "5"}, []string{`--time "5": not a duration`}},
		{[]string{"bench", "ycsb", "--threads", "1,x"}, []string{`--threads "1,x": not a whole number`}},
		{[]string{"convert", "--from", "nvkv:a", "--to", "nvkv:b", "--empty-key", "z"}, []string{`--empty-key "z": not hexadecimal`}},
		{[]string{"scan", store, "--reverse=perhaps"}, []string{`--reverse "perhaps": neither true nor false`}},
		{[]string{"get", store, "--hex", "zz"}, []string{`key "zz": 'z' is no hexadecimal digit`}},
		{[]string{"get", store, "--hex", "123"}, []string{`key "123": an odd number`}},
		{[]string{"get", store, "--base64", "AA?="}, []string{`key "AA?=": no base64 from byte 2 on`}},
		{[]string{"get", store, "--hex", strings.Repeat("z", 70_000)}, []string{"(70,000 bytes)"}},
	} {
		r := nvkv(t, c.args...)
		fails(t, exitUsage, append(c.says, "--help"), c.args...)
		for _, word := range []string{"strconv", "encoding/", "invalid syntax"} {
			if strings.Contains(r.errOut, word) {
				t.Errorf("nvkv %.100q: %q speaks of %s", c.args, r.errOut, word)
			}
		}
		if len(r.errOut) > 1000 {
			t.Errorf("nvkv %.100q: %d bytes on stderr", c.args, len(r.errOut))
		}
	}
	if got := must(t, "scan", store); got != "a\t1\n" {
		t.Errorf("the store was changed: %q", got)
	}
}

func TestKnownNames(t *testing.T) {
	for _, args := range [][]string{{"bench"}, {"completion"}, {"help", "get"}, {"help", "bench", "ycsb"}, {"completion", "bash"}} {
		if out := must(t, args...); !strings.Contains(out, "nvkv") {
			t.Errorf("nvkv %q shows %.200q", args, out)
		}
	}
}

// TestLeftOut checks that records left out as requested have an exit code of their own. They are
// named on standard error, and nothing else is.
func TestLeftOut(t *testing.T) {
	store := newStore(t)
	r := nvkvIn(t, "a\t1\n\\\n", "load", store, "-", "--format", "lines", "--skip-bad")
	if r.code != exitLeftOut || r.errOut != `-:2: a lone \ at the end: write \\ for a backslash; left out`+"\n" {
		t.Errorf("exit %d, stderr %q", r.code, r.errOut)
	}
	r = nvkvIn(t, "key,value\na,1\nb,\"2\nc,3\nd,4\n", "load", store, "-", "--format", "csv", "--skip-bad")
	if r.code != exitLeftOut || !strings.Contains(r.out, "3 bad records left out") || !strings.Contains(r.errOut, "takes lines 3 to 5 with it") {
		t.Errorf("an unclosed quote: %+v", r)
	}
	if r = nvkvIn(t, "a\t1\n", "load", store, "-", "--format", "lines", "--skip-bad"); r.code != exitDone {
		t.Errorf("nothing was left out: %+v", r)
	}
}

// TestUselessInputMakesNoStore checks that an input without a usable record makes no store.
func TestUselessInputMakesNoStore(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store.nv")
	for _, c := range []struct{ name, text, says string }{
		{"p.csv", "id,n\n1,x\n", `unknown column "id"`},
		{"p.tsv", "id\tn\n1\tx\n", `unknown column "id"`},
		{"p.jsonl", `{"id":1}`, `p.jsonl:1: unknown field "id"`},
		{"p.txt", `\x`, "p.txt:1: "},
		{"mark.txt", `\x00nvkv/load	x`, "mark.txt:1: the key"},
		{"long.txt", strings.Repeat("k", 65536), "long.txt:1: a key of 65536 bytes: at most 65535"},
	} {
		fails(t, exitFailed, []string{c.says}, "load", store, newFile(t, c.name, c.text))
		if _, err := os.Stat(store); !os.IsNotExist(err) {
			t.Errorf("%s: a store was made: %v", c.name, err)
		}
	}
}

// TestErrorsSayItOnce checks that errors state a fact once, and a limit if one is exceeded.
func TestErrorsSayItOnce(t *testing.T) {
	store, absent := newStore(t, "a", "1"), filepath.Join(t.TempDir(), "absent")
	for _, args := range [][]string{
		{"get", absent, "k"}, {"put", absent + "/below", "k", "v"}, {"get", filepath.Dir(absent), "k"}, {"compact", absent},
		{"salvage", absent, absent + ".out"}, {"restore", absent, absent + ".nv"}, {"backup", absent, "-"},
		{"convert", "--from", "nvkv:" + absent, "--to", "nvkv:" + absent + ".nv"},
		{"convert", "--from", "bbolt:" + absent, "--to", "nvkv:" + absent + ".nv"}, {"convert", "--from", "pebble:" + absent, "--to", "nvkv:" + absent + ".nv"},
		{"salvage", store, absent + "/below.nv"}, {"salvage", store, absent + "/below.jsonl"}, {"backup", store, absent + "/below"}, {"load", absent + "/below", newFile(t, "a.txt", "a")},
	} {
		r := nvkv(t, args...)
		n := strings.Count(r.errOut, absent)
		if n == 0 {
			n = strings.Count(r.errOut, filepath.Dir(absent))
		}
		if r.code != exitFailed || n != 1 {
			t.Errorf("nvkv %q: exit %d, names the path %d times: %q", args, r.code, n, r.errOut)
		}
	}
	fails(t, exitFailed, []string{"key too large: 70000 bytes, at most 65535"}, "put", store, strings.Repeat("k", 70_000), "v")
}

// TestClosedOutput checks that a closed output is no failure, except for a backup, of which a part
// is useless, and that damage is still reported.
func TestClosedOutput(t *testing.T) {
	store := newStore(t, "a", "1")
	closed := func(args ...string) result {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		defer w.Close()
		var errOut strings.Builder
		return result{code: run(t.Context(), args, strings.NewReader(""), w, &errOut), errOut: errOut.String()}
	}
	for _, args := range [][]string{{"scan", store}, {"dump", store}, {"get", store, "a"}, {"info", store}, {"check", store}, {"compact", store}} {
		if r := closed(args...); r.code != exitDone || r.errOut != "" {
			t.Errorf("nvkv %q: %+v", args, r)
		}
	}
	if r := closed("backup", store, "-"); r.code != exitFailed || !strings.Contains(r.errOut, "standard output: ") {
		t.Errorf("backup: %+v", r)
	}
	rot(t, store, "1")
	if r := closed("check", store); r.code != exitFailed || !strings.Contains(r.errOut, "1 issue found") {
		t.Errorf("check of a damaged store: %+v", r)
	}
}

// rot changes a bit of the last occurrence of text in a file.
func rot(t testing.TB, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(b), text)
	if at < 0 {
		t.Fatalf("%q is not in the file", text)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
