package main

import (
	"os"
	"strings"
	"testing"

	"nvkv/internal/effort"
)

// bytesStore returns a store with text, arbitrary bytes, and the empty key.
func bytesStore(t testing.TB) string {
	store := newStore(t, "", "empty key", "text", "välue", "lines", "a\r\nb\n", "tab\t", `\`, "empty", "")
	must(t, "put", store, "--hex", "00ff", "fffe00")
	must(t, "put", store, "--hex", "61", "1b5b33316d")
	return store
}

func TestDumpLoadsAgain(t *testing.T) {
	store := bytesStore(t)
	want := must(t, "scan", store, "--hex")
	for _, format := range []string{"jsonl", "csv", "tsv", "lines"} {
		text := must(t, "dump", store, "--format", format)
		again := newStore(t)
		mustIn(t, text, "load", again, "-", "--format", format)
		if got := must(t, "scan", again, "--hex"); got != want {
			t.Errorf("%s: loaded again\n%s\nwas\n%s", format, got, want)
		}
	}
}

func TestDumpGolden(t *testing.T) {
	store := bytesStore(t)
	for _, format := range []string{"jsonl", "csv", "tsv", "lines"} {
		golden(t, "dump."+format, must(t, "dump", store, "--format", format))
	}
}

func TestDumpEmpty(t *testing.T) {
	store := newStore(t, "a", "1")
	must(t, "del", store, "a")
	if got := must(t, "dump", store); got != "" {
		t.Errorf("jsonl: %q", got)
	}
	if got := must(t, "dump", store, "--format", "csv"); got != "key,value,base64\n" {
		t.Errorf("csv: %q", got)
	}
}

// bigStore returns a store whose dump fills pipes and buffers.
func bigStore(t testing.TB) string {
	store := newStore(t)
	var text strings.Builder
	for i := range 50_000 {
		text.WriteString(count(i) + "\tvalue of that number\n")
	}
	mustIn(t, text.String(), "load", store, "-", "--format", "lines")
	return store
}

// TestDumpIntoClosedPipe checks that a reader that closes its pipe early, like head(1), causes
// neither a failure nor a message.
func TestDumpIntoClosedPipe(t *testing.T) {
	store := bigStore(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut strings.Builder
	cmd := program(t, "dump", store)
	cmd.Stdout, cmd.Stderr = w, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := cmd.Wait(); err != nil || errOut.Len() > 0 {
		t.Errorf("%v, stderr %q", err, errOut.String())
	}
}

// TestFullOutput checks that an output that cannot be written is a failure, even if all of it fits
// into a buffer.
func TestFullOutput(t *testing.T) {
	store := newStore(t, "a", "1")
	for _, args := range [][]string{{"dump", store}, {"scan", store}, {"get", store, "a"}, {"info", store}, {"stats", store},
		{"check", store}, {"stats", store, "--json"}, {"version"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			effort.NotTested(t, "no device that is always full: %v", err)
		}
		var errOut strings.Builder
		code := run(t.Context(), args, strings.NewReader(""), full, &errOut)
		full.Close()
		if code != exitFailed || !strings.Contains(errOut.String(), "no space left") {
			t.Errorf("nvkv %q: exit %d, stderr %q", args, code, errOut.String())
		}
	}
}

// TestDumpDamagedStore checks that the records before a damaged one are written.
func TestDumpDamagedStore(t *testing.T) {
	store := newStore(t, "a", "first value", "b", "second value", "c", "third value")
	bytes, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(bytes), "second value")
	if at < 0 {
		t.Fatal("the value is not in the file")
	}
	bytes[at] ^= 1
	if err := os.WriteFile(store, bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"scan", store}, {"dump", store, "--format", "lines"}} {
		r := nvkv(t, args...)
		if r.code != exitFailed || !strings.Contains(r.errOut, "corrupt") || strings.Count(r.errOut, "\n") != 1 {
			t.Errorf("nvkv %q: exit %d, stderr %q", args, r.code, r.errOut)
		}
		if r.out != "a\tfirst value\n" {
			t.Errorf("nvkv %q: wrote %q", args, r.out)
		}
	}
	fails(t, exitFailed, []string{store, "corrupt"}, "get", store, "b")
	r := nvkv(t, "check", store)
	if r.code != exitFailed || !strings.Contains(r.errOut, "1 issue found") || !strings.Contains(r.out, `"b"`) {
		t.Errorf("check: exit %d, stdout %q, stderr %q", r.code, r.out, r.errOut)
	}
}
