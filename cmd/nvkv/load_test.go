package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, text string
		args       []string
		want       string
	}{
		{"p.jsonl", `{"id":1,"n":"x"}` + "\n" + `{"id":2,"n":"y"}`, []string{"--key", "id"}, "1\t" + `{"id":1,"n":"x"}` + "\n2\t" + `{"id":2,"n":"y"}` + "\n"},
		{"p.ndjson", `{"key":"a","value":"b"}`, nil, "a\tb\n"},
		{"p.csv", "id,n\n1,x\n2,y\n", []string{"--key", "id", "--value", "n"}, "1\tx\n2\ty\n"},
		{"p.tsv", "1\tx\n2\ty\n", []string{"--key", "id", "--value", "n", "--columns", "id,n"}, "1\tx\n2\ty\n"},
		{"p.txt", "b\na\n", nil, "a\t\nb\t\n"},
		{"p.dat", "b\na\n", []string{"--format", "lines"}, "a\t\nb\t\n"},
		{"p.csv", `{"key":"a","value":"b"}`, []string{"--format", "jsonl"}, "a\tb\n"},
		{"last.txt", "a\t1\na\t2\n", nil, "a\t2\n"},
		{"empty.jsonl", "", nil, ""},
	} {
		store := newStore(t)
		out := must(t, append([]string{"load", store, newFile(t, c.name, c.text)}, c.args...)...)
		if !strings.Contains(out, c.name+": ") || !strings.Contains(out, " put, ") {
			t.Errorf("%s: reports %q", c.name, out)
		}
		if got := must(t, "scan", store); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLoadStdin(t *testing.T) {
	store := newStore(t)
	mustIn(t, `{"key":"a","value":"b"}`, "load", store, "-")
	if got := must(t, "scan", store); got != "a\tb\n" {
		t.Errorf("got %q", got)
	}
}

func TestLoadJSONResult(t *testing.T) {
	store := newStore(t)
	r := nvkvIn(t, "a\t1\n\\\nb\t2\n", "load", store, "-", "--format", "lines", "--skip-bad", "--json")
	var got loadResult
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Records != 2 || got.Skipped != 1 || got.Bytes != 4 || got.Source != "-" || got.Seconds <= 0 {
		t.Errorf("got %+v", got)
	}
}

// TestLoadMakesNoStoreInVain checks that a wrong name or flag leaves no empty store behind.
func TestLoadMakesNoStoreInVain(t *testing.T) {
	store := newStore(t)
	fails(t, exitFailed, []string{"absent.csv"}, "load", store, filepath.Join(t.TempDir(), "absent.csv"))
	fails(t, exitFailed, []string{"is a directory"}, "load", store, t.TempDir(), "--format", "csv")
	fails(t, exitUsage, []string{`no column "x"`}, "load", store, newFile(t, "a.csv", ""), "--columns", "a", "--key", "x")
	if _, err := os.Stat(store); !os.IsNotExist(err) {
		t.Errorf("a store was made: %v", err)
	}
}

func TestLoadBadRecord(t *testing.T) {
	store := newStore(t)
	file := newFile(t, "in.jsonl", `{"key":"a","value":"1"}
{"key":"b"}
{"key":"c","value":"3"}
`)
	fails(t, exitFailed, []string{store, "in.jsonl:2: no field", "1 record loaded before", "--resume"}, "load", store, file)
	if got := must(t, "scan", store); got != "a\t1\n" {
		t.Errorf("after the failure: %q", got)
	}
	if info := must(t, "info", store); !strings.Contains(info, "unfinished   load of "+file) {
		t.Errorf("info does not tell of the unfinished load:\n%s", info)
	}

	r := nvkv(t, "load", store, file, "--skip-bad")
	if r.code != exitLeftOut || !strings.Contains(r.errOut, `in.jsonl:2: no field "value"; left out`) || strings.Count(r.errOut, "\n") != 1 {
		t.Errorf("--skip-bad: exit %d, stderr %q", r.code, r.errOut)
	}
	if !strings.Contains(r.out, "2 records put") || !strings.Contains(r.out, "1 bad record left out") {
		t.Errorf("--skip-bad reports %q", r.out)
	}
	if got := must(t, "scan", store); got != "a\t1\nc\t3\n" {
		t.Errorf("with --skip-bad: %q", got)
	}
	if strings.Contains(must(t, "info", store), "unfinished") {
		t.Error("a finished load is still called unfinished")
	}
}

func TestLoadRefusesKeys(t *testing.T) {
	store := newStore(t)
	long := newFile(t, "long.txt", "a\n"+strings.Repeat("k", 65536)+"\n")
	fails(t, exitFailed, []string{"long.txt:2: a key of 65536 bytes: at most 65535"}, "load", store, long)
	fails(t, exitFailed, []string{`mark.txt:1: the key "\x00nvkv/load"`}, "load", store, newFile(t, "mark.txt", `\x00nvkv/load	x`))
}

// numbered returns n lines "key<i>	<i>".
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%06d\t%d\n", i, i)
	}
	return b.String()
}

// TestLoadResume checks that a load that stops at a bad line continues, once the line is corrected,
// after the records it had put, and puts none of them again.
func TestLoadResume(t *testing.T) {
	store := newStore(t)
	good := numbered(1000)
	lines := strings.SplitAfter(good, "\n")
	bad := strings.Join(lines[:777], "") + "\\\n" + strings.Join(lines[777:], "")
	fails(t, exitFailed, []string{"in.txt:778", "777 records loaded before"}, "load", store, newFile(t, "in.txt", bad), "--batch", "100")
	must(t, "del", store, "key000000") // to see that it is not put again

	out := must(t, "load", store, newFile(t, "in.txt", good), "--batch", "100", "--resume")
	if !strings.Contains(out, "223 records put") || !strings.Contains(out, "777 records put before") {
		t.Errorf("reports %q", out)
	}
	if got, want := must(t, "scan", store), strings.Join(lines[1:], ""); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	fails(t, exitNotFound, nil, "get", store, "--hex", fmt.Sprintf("%x", loadMarkKey))
}

func TestLoadResumeOtherInput(t *testing.T) {
	store := newStore(t)
	fails(t, exitFailed, nil, "load", store, newFile(t, "in.txt", "a\t1\nb\t2\n\\\n"))
	for _, text := range []string{"a\t1\nb\t3\nc\t4\n", "a\t1\n", ""} {
		fails(t, exitFailed, []string{"other.txt", "does not begin with the 2 records", "in.txt"},
			"load", store, newFile(t, "other.txt", text), "--resume")
	}
	if got := must(t, "scan", store); got != "a\t1\nb\t2\n" {
		t.Errorf("a refused load changed the store: %q", got)
	}
	must(t, "load", store, newFile(t, "other.txt", "z\t1\n"))
	if got := must(t, "scan", store); got != "a\t1\nb\t2\nz\t1\n" {
		t.Errorf("got %q", got)
	}
}

func TestLoadResumeWithoutUnfinished(t *testing.T) {
	store := newStore(t)
	must(t, "load", store, newFile(t, "in.txt", "a\t1\n"), "--resume")
	if got := must(t, "scan", store); got != "a\t1\n" {
		t.Errorf("got %q", got)
	}
}

// TestLoadMarkIsHidden checks that the load mark is not shown as a record.
func TestLoadMarkIsHidden(t *testing.T) {
	store := newStore(t)
	fails(t, exitFailed, nil, "load", store, newFile(t, "in.txt", "a\t1\n\\\n"))
	for _, args := range [][]string{{"scan", store}, {"scan", store, "--reverse"}, {"dump", store, "--format", "lines"}} {
		if got := must(t, args...); got != "a\t1\n" {
			t.Errorf("nvkv %q: %q", args, got)
		}
	}
}

func TestLoadDamagedMark(t *testing.T) {
	store := newStore(t, loadMarkKey, "{")
	fails(t, exitFailed, []string{store, "mark of an unfinished load"}, "load", store, newFile(t, "in.txt", "a\n"))
	fails(t, exitFailed, []string{store, "mark of an unfinished load"}, "info", store)
	must(t, "del", store, loadMarkKey)
	must(t, "load", store, newFile(t, "in.txt", "a\n"))
}

// TestLoadKilled kills a load repeatedly and resumes it each time. The store must end as after an
// undisturbed load.
func TestLoadKilled(t *testing.T) {
	store := newStore(t)
	text := numbered(60_000)
	file := newFile(t, "in.txt", text)
	kills := 0
	for kills < 5 {
		cmd := program(t, "load", store, file, "--resume", "--batch", "50")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+10*kills) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait() == nil {
			break // it was done first
		}
		kills++
	}
	t.Logf("killed %d times", kills)
	must(t, "load", store, file, "--resume")
	if got := must(t, "scan", store); got != text {
		t.Errorf("%d bytes, want %d", len(got), len(text))
	}
	must(t, "check", store)
}

// TestLoadInterruptedBySignal checks that a signal that can be caught ends the load in good order.
func TestLoadInterruptedBySignal(t *testing.T) {
	store := newStore(t)
	cmd := program(t, "load", store, "-", "--format", "lines", "--batch", "10")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut strings.Builder
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte(numbered(20_000))); err != nil { // more than pipe and buffer hold
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	in.Write([]byte(numbered(20_000))) // the pipe may be closed
	in.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(errOut.String(), "interrupted") || strings.Count(errOut.String(), "\n") != 1 {
		t.Errorf("exit %d, stderr %q", code, errOut.String())
	}
	if !strings.Contains(must(t, "info", store), "unfinished") {
		t.Error("no mark of the unfinished load")
	}
}

func TestLoadInterrupted(t *testing.T) {
	store := newStore(t, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := nvkvContext(ctx, "b\t2\n", "load", store, "-", "--format", "lines")
	if r.code != exitFailed || !strings.Contains(r.errOut, "interrupted") {
		t.Errorf("load: exit %d, stderr %q", r.code, r.errOut)
	}
}

func TestLoadLockedStore(t *testing.T) {
	store := newStore(t, "a", "1")
	db, err := kv.Open(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fails(t, exitFailed, []string{store, "locked"}, "load", store, newFile(t, "in.txt", "a\n"))
	fails(t, exitFailed, []string{store, "locked"}, "get", store, "a")
}

// TestLoadFullStore checks that a load that fills the store keeps its records and continues when
// there is room.
func TestLoadFullStore(t *testing.T) {
	store := newStore(t)
	text := numbered(20_000)
	file := newFile(t, "in.txt", text)
	err := loadInto(t, store, file, &kv.Options{MaxBytes: 1 << 20})
	if !errors.Is(err, kv.ErrFull) || !strings.Contains(err.Error(), "--resume goes on") {
		t.Fatalf("got %v", err)
	}
	must(t, "check", store)
	out := must(t, "load", store, file, "--resume")
	if !strings.Contains(out, "put before") {
		t.Errorf("reports %q", out)
	}
	if got := must(t, "scan", store); got != text {
		t.Errorf("%d bytes, want %d", len(got), len(text))
	}
}

// loadInto loads file in batches of 100 into a store opened with o.
func loadInto(t *testing.T, store, file string, o *kv.Options) error {
	t.Helper()
	db, err := kv.Open(store, o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := textrec.NewReader(f, textrec.Lines, textrec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := loader{db: db, in: &input{name: file, records: records}, opt: loadOptions{batch: 100}, warn: os.Stderr}
	return l.run(t.Context())
}

// FuzzLoad loads arbitrary text in every format. There must be no panic and a fitting exit code,
// and a dump of the store must load to the same store.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"", `{"key":"a","value":"b"}`, `{"key":"a"`, `{"key":"/w==","value":"","base64":"key"}`,
		"key,value\na,b\nc\n\"d\n", "key,value,base64\n/w==,?,both\n",
	} {
		for i := range byte(4) {
			f.Add(text, i)
		}
	}
	f.Fuzz(func(t *testing.T, text string, which byte) {
		format := []string{"jsonl", "csv", "tsv", "lines"}[which%4]
		store := newStore(t)
		r := nvkvIn(t, text, "load", store, "-", "--format", format, "--skip-bad", "--batch", "3", "--device", "")
		if r.code != exitDone && r.code != exitLeftOut && (r.code != exitFailed || !strings.HasPrefix(r.errOut, "nvkv load: ") && !strings.Contains(r.errOut, "\nnvkv load: ")) {
			t.Fatalf("exit %d, stderr %q", r.code, r.errOut)
		}
		if _, err := os.Stat(store); r.code == exitFailed && os.IsNotExist(err) {
			return // no usable record
		}
		want := must(t, "dump", store, "--format", format)
		again := newStore(t)
		mustIn(t, want, "load", again, "-", "--format", format)
		if got := must(t, "dump", again, "--format", format); got != want {
			t.Fatalf("dumped %q, loaded and dumped again %q", want, got)
		}
	})
}
