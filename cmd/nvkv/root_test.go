package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; go test ./cmd/nvkv -update accepts it. Now:\n%s", path, got)
	}
}

// ownCommands are the commands whose help is in this directory's golden files.
var ownCommands = []string{"put", "get", "del", "scan", "count", "shell", "load", "dump", "info", "stats", "check", "compact", "backup", "restore", "ui", "version", "man", "demo"}

func TestHelp(t *testing.T) {
	for _, name := range ownCommands {
		t.Run(name, func(t *testing.T) { golden(t, "help/"+name+".txt", must(t, name, "--help")) })
	}
}

// TestExamples checks that every visible command has a summary and examples, and that the program
// can parse every example.
func TestExamples(t *testing.T) {
	walk(newRootCmd(), func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" || cmd.Parent() != nil && cmd.Parent().Name() == "completion" {
			return
		}
		if cmd.Short == "" || cmd.Example == "" && cmd.Runnable() {
			t.Errorf("%s: no summary or no example", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			checkExample(t, cmd, line)
		}
	})
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

// checkExample parses the parts of a shell line that call nvkv.
func checkExample(t *testing.T, cmd *cobra.Command, line string) {
	for part := range strings.SplitSeq(line, "|") {
		part, _, _ = strings.Cut(part, ">")
		part, _, _ = strings.Cut(part, "<")
		args := strings.Fields(part)
		if len(args) == 0 || args[0] != "nvkv" {
			continue
		}
		root := newRootCmd()
		found, rest, err := root.Find(args[1:])
		if err == nil {
			err = found.ParseFlags(rest)
		}
		if err == nil {
			err = found.ValidateArgs(found.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
		}
	}
}

func TestRootHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		if out := must(t, args...); !strings.Contains(out, "nvkv demo") {
			t.Errorf("nvkv %q does not show a newcomer the demo:\n%s", args, out)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	store := newStore(t, "a", "1")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"--frob"}, "unknown flag: --frob"},
		{[]string{"get", store}, "want STORE KEY, got 1 argument"},
		{[]string{"get", store, "a", "b"}, "got 3 arguments"},
		{[]string{"get", store, "a", "--frob"}, "unknown flag: --frob"},
		{[]string{"put", store, "a"}, "want STORE KEY VALUE|-"},
		{[]string{"put"}, "got 0 arguments"},
		{[]string{"del", store}, "want STORE KEY..."},
		{[]string{"scan"}, "want STORE, got 0"},
		{[]string{"scan", store, "--limit", "-1"}, "--limit"},
		{[]string{"scan", store, "--json", "--hex"}, "[hex json]"},
		{[]string{"get", store, "a", "--hex", "--base64"}, "[base64 hex]"},
		{[]string{"get", store, "xyz", "--hex"}, `key "xyz"`},
		{[]string{"get", store, "%", "--base64"}, `key "%"`},
		{[]string{"put", store, "00", "0", "--hex"}, `value "0"`},
		{[]string{"scan", store, "--start", "0", "--hex"}, `--start "0"`},
		{[]string{"scan", store, "--end", "0", "--hex"}, `--end "0"`},
		{[]string{"scan", store, "--prefix", "0", "--hex"}, `--prefix "0"`},
		{[]string{"dump", store, "--format", "xml"}, `unknown format "xml"`},
		{[]string{"load", store, "x.bin"}, "x.bin"},
		{[]string{"load", store, "-", "--batch", "0"}, "--batch 0"},
		{[]string{"load", store, "-", "--value", "x"}, "without a key field"},
		{[]string{"version", "x"}, `unexpected argument "x"`},
	} {
		fails(t, exitUsage, []string{c.says, "--help"}, c.args...)
	}
	if out := must(t, "scan", store); out != "a\t1\n" {
		t.Errorf("a wrong command line changed the store: %q", out)
	}
}

// TestNotAStore checks that every command on a store answers a path that is no store with one line
// that names it, and makes nothing.
func TestNotAStore(t *testing.T) {
	dir := t.TempDir()
	foreign := newFile(t, "letter.txt", strings.Repeat("Dear reader, this is not a store. ", 1000))
	for _, path := range []string{filepath.Join(dir, "absent.nv"), dir, foreign, filepath.Join(foreign, "below.nv")} {
		for _, args := range [][]string{{"get", path, "k"}, {"del", path, "k"}, {"scan", path}, {"dump", path}, {"info", path}, {"stats", path}, {"check", path}, {"compact", path}, {"backup", path, "-"}} {
			fails(t, exitFailed, []string{path}, args...)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	for _, path := range []string{dir, foreign} {
		fails(t, exitFailed, []string{path}, "put", path, "k", "v")
	}
}
