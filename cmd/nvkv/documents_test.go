package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/rogpeppe/go-internal/testscript"
	bolt "go.etcd.io/bbolt"
)

// docCommand is a command line of a document.
type docCommand struct {
	line int
	text string
	code int // the exit code that its comment states, 0 if it states none
}

var statedCode = regexp.MustCompile(`# exit code (\d+)`)

// documentCommands returns the command lines of a document: those of its indented blocks, outside
// fences and lists.
func documentCommands(text string) (commands []docCommand) {
	fenced, list := false, false
	for i, line := range strings.Split(text, "\n") {
		body, isIndented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.TrimSpace(line) == "":
		case !isIndented || strings.HasPrefix(body, " "):
			// Lines of a list may be indented as deep. Only a plain line ends a list: Markdown takes an
			// indented block right behind a list for a part of it.
			list = listItem.MatchString(line) || list && strings.HasPrefix(line, " ")
		case list && !strings.HasPrefix(body, "nvkv "): // nvkv's own lines count everywhere
		default:
			c := docCommand{line: i + 1, text: strings.TrimSpace(body)}
			if m := statedCode.FindStringSubmatch(body); m != nil {
				fmt.Sscan(m[1], &c.code)
			}
			commands = append(commands, c)
		}
	}
	return commands
}

var listItem = regexp.MustCompile(`^\s*(- |\d+\. )`)

// TestDocumentCommands checks which lines of a document are commands.
func TestDocumentCommands(t *testing.T) {
	const text = "Text.\n\n    nvkv a   # exit code 3\n\n```\n    not this\n```\n- item\n    goes on\n\nText:\n\n    b\n"
	got := documentCommands(text)
	want := []docCommand{{3, "nvkv a   # exit code 3", 3}, {13, "b", 0}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestDocuments runs every command of every document, in the document's order and in one shell.
// testdata/documents/NAME.txtar prepares the files that the commands of NAME.md need. Its lines
//
//	document FILE                     run the commands of FILE
//	elsewhere PREFIX FILE TEXT        commands that begin so are run by FILE, which contains TEXT
//
// excuse what cannot run here. A document with commands and without a script is an error.
func TestDocuments(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the documents' commands were not run")
	}
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var scripts []string
	for _, doc := range append(docs, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		if len(documentCommands(string(text))) == 0 {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(doc), ".md")
		script := filepath.Join("testdata", "documents", name+".txtar")
		if body, err := os.ReadFile(script); err != nil {
			t.Errorf("%s has commands that nothing runs: %v", doc, err)
			continue
		} else if !bytes.Contains(body, []byte("document "+filepath.Base(doc)+"\n")) {
			t.Errorf("%s does not run %s", script, doc)
		}
		scripts = append(scripts, script)
	}
	if len(scripts) < 8 {
		t.Fatalf("only %d documents have commands", len(scripts))
	}
	runScripts(t, scripts)
}

// TestTranscript goes through what a user does with a store: a program of one's own, a load, queries, a
// service that is watched, a backup while it serves, a kill, a byte that rots, a check, a rescue, a
// restore, a conversion.
func TestTranscript(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the transcript was not run")
	}
	runScripts(t, []string{filepath.Join("testdata", "transcript.txtar")})
}

// runScripts runs scripts, with nvkv and the commands below.
func runScripts(t *testing.T, scripts []string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := programDir(t)
	testscript.Run(t, testscript.Params{
		Files: scripts,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("NVKV", root)
			for _, name := range []string{"HOME", "GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY"} {
				e.Setenv(name, goEnv(t, name))
			}
			e.Values["elsewhere"] = &[]string{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"document": runDocument, "elsewhere": runElsewhere, "rot": rotIn, "makebbolt": makeBboltIn, "makenested": makeNestedIn, "makepebble": makePebbleIn,
		},
	})
}

// programDir returns a directory with a program nvkv, which is this test binary.
func programDir(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asProgram, self)
	if err := os.WriteFile(filepath.Join(dir, "nvkv"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goEnv returns a variable of the go command, or of the process.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	if v := os.Getenv(name); v != "" || !strings.HasPrefix(name, "GO") {
		return v
	}
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// runElsewhere is the script command elsewhere.
func runElsewhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: elsewhere PREFIX FILE TEXT")
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("NVKV"), args[1]))
	ts.Check(err)
	if !bytes.Contains(text, []byte(args[2])) {
		ts.Fatalf("%s does not contain %q, so it runs no %q", args[1], args[2], args[0])
	}
	list := ts.Value("elsewhere").(*[]string)
	*list = append(*list, args[0])
}

// runDocument is the script command document.
func runDocument(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: document FILE")
	}
	path := filepath.Join(ts.Getenv("NVKV"), "docs", args[0])
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(ts.Getenv("NVKV"), args[0])
	}
	text, err := os.ReadFile(path)
	ts.Check(err)
	excused := *ts.Value("elsewhere").(*[]string)
	used := map[string]bool{}
	var shell strings.Builder
	for _, c := range documentCommands(string(text)) {
		at := slices.IndexFunc(excused, func(prefix string) bool { return strings.HasPrefix(c.text, prefix) })
		if at >= 0 {
			used[excused[at]] = true
			continue
		}
		fmt.Fprintf(&shell, "%s\n[ $? = %d ] || { echo '%s:%d: not exit code %d' >&2; exit 1; }\n", c.text, c.code, args[0], c.line, c.code)
	}
	for _, prefix := range excused {
		if !used[prefix] {
			ts.Fatalf("%s has no command %q, which is said to run elsewhere", args[0], prefix)
		}
	}
	if shell.Len() > 0 {
		ts.Check(ts.Exec("sh", "-c", shell.String()))
	}
}

// rotIn is the script command "rot STORE TEXT MASK": it changes the bits of the mask in the first byte
// of each TEXT in the store.
func rotIn(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	medium, err := os.ReadFile(path)
	ts.Check(err)
	mask, err := strconv.ParseUint(args[2], 0, 8)
	ts.Check(err)
	n := bytes.Count(medium, []byte(args[1]))
	if neg || n == 0 {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	for range n {
		medium[bytes.Index(medium, []byte(args[1]))] ^= byte(mask)
	}
	ts.Check(os.WriteFile(path, medium, 0o600))
}

// makeBboltIn is the script command "makebbolt FILE BUCKET".
func makeBboltIn(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(writeBbolt(ts.MkAbs(args[0]), args[1]))
}

// makeNestedIn is the script command "makenested FILE": a bbolt file with buckets in buckets.
func makeNestedIn(ts *testscript.TestScript, _ bool, args []string) {
	db, err := bolt.Open(ts.MkAbs(args[0]), 0o600, nil)
	ts.Check(err)
	ts.Check(db.Update(func(tx *bolt.Tx) error {
		users, err := tx.CreateBucket([]byte("users"))
		if err != nil {
			return err
		}
		admins, err := users.CreateBucket([]byte("admins"))
		if err != nil {
			return err
		}
		if _, err := users.CreateBucket([]byte("empty")); err != nil {
			return err
		}
		return errors.Join(users.Put([]byte("grace"), []byte("user")), admins.Put([]byte("ada"), []byte("root")))
	}))
	ts.Check(db.Close())
}

// makePebbleIn is the script command "makepebble DIRECTORY".
func makePebbleIn(ts *testscript.TestScript, _ bool, args []string) {
	db, err := pebble.Open(ts.MkAbs(args[0]), &pebble.Options{Logger: pebble.DefaultLogger})
	ts.Check(err)
	ts.Check(db.Set([]byte("colour"), []byte("blue"), pebble.Sync))
	ts.Check(db.Close())
}
