package main

import (
	"slices"
	"strings"
	"testing"

	"nvkv/kv"
)

// TestShell runs a session, and checks what it prints and what it leaves.
func TestShell(t *testing.T) {
	store := newStore(t)
	r := nvkvIn(t, `# a comment
put user/1 "Ada \"Countess\""
put user/2 Grace 1h
get user/1
scan user/
begin
put user/3 Barbara
count user/
rollback
count user/
begin
del user/1 nothing
commit
scan "" 1
snapshot
count
rollback
explain put "a b" "\x00"
explain get "a b"
begin
put lost 1
`, "shell", store)
	lines := strings.Split(r.out, "\n")
	want := []string{`Ada "Countess"`, `user/1	Ada "Countess"`, "user/2\tGrace", "3", "2", "user/2\tGrace", "1"}
	if r.code != exitDone || len(lines) < 10 || !slices.Equal(lines[:7], want) {
		t.Fatalf("%+v", r)
	}
	if !strings.Contains(lines[7], "1 fence, ") || lines[9] != `\x00` || !strings.Contains(lines[10], "0 fences, 0 B to the medium") {
		t.Errorf("explain: %q", lines[7:])
	}
	if got := must(t, "scan", store); got != "a b\t\\x00\nuser/2\tGrace\n" {
		t.Errorf("left: %q", got)
	}
	if k := must(t, "info", store, "user/2"); strings.Contains(k, "never") {
		t.Errorf("no expiry: %s", k)
	}
}

func TestShellErrors(t *testing.T) {
	store := newStore(t, "a", "1")
	for line, says := range map[string]string{
		"drop":                 "unknown command \"drop\"",
		"get":                  "want get KEY",
		"get b":                "\"b\": key not found",
		"put a b soon":         "no duration",
		"put a b -1s":          "no duration",
		"scan a 0":             "no number from 1 on",
		`get "a`:               "not closed",
		`get "a"b`:             "no space behind a quote",
		"commit":               "no transaction is open",
		"rollback":             "no transaction or snapshot is open",
		"begin\nbegin":         "line 2: a transaction or a snapshot is open",
		"snapshot\nput a b":    "line 2: a snapshot only reads",
		"snapshot\ncommit":     "line 2: no transaction is open",
		"explain explain drop": "unknown command",
	} {
		r := nvkvIn(t, line+"\n", "shell", store)
		if r.code == exitDone || !strings.Contains(r.errOut, says) || strings.Count(r.errOut, "\n") != 1 {
			t.Errorf("%q: %+v, want %q", line, r, says)
		}
	}
	if got := must(t, "scan", store); got != "a\t1\n" {
		t.Errorf("left: %q", got)
	}
	if r := nvkvIn(t, "exit\ndrop\n", "shell", store); r.code != exitDone {
		t.Errorf("after exit: %+v", r)
	}
}

func TestShellCompletes(t *testing.T) {
	db, err := kv.Open("", &kv.Options{Device: "mem"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, key := range []string{"user/10", "user/11", "unique", "x y"} {
		if err := db.Put([]byte(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	s := &shell{db: db}
	for line, want := range map[string]string{"sn": "snapshot ", "get us": "get user/1", "get un": "get unique ", "get u": "get u", "c": "co", "get x": "", "zz": ""} {
		got, pos, ok := s.complete(line, len(line), '\t')
		if ok != (want != "") || got != want || ok && pos != len(want) {
			t.Errorf("%q: %q at %d, %v; want %q", line, got, pos, ok, want)
		}
	}
	if _, _, ok := s.complete("sn", 2, 'a'); ok {
		t.Error("a letter completes")
	}
}
