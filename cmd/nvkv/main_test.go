package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// asProgram makes the test binary run as the program.
const asProgram = "NVKV_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || os.Getenv(guardedEnv) != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"nvkv": main, "service": service})
}

// program returns a command that runs nvkv in another process.
func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// result is the result of a command line.
type result struct {
	code        int
	out, errOut string
}

// nvkv runs a command line in this process.
func nvkv(t testing.TB, args ...string) result {
	t.Helper()
	return nvkvIn(t, "", args...)
}

// nvkvIn runs a command line with stdin.
func nvkvIn(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return nvkvContext(t.Context(), stdin, args...)
}

func nvkvContext(ctx context.Context, stdin string, args ...string) result {
	var out, errOut bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &out, &errOut)
	return result{code, out.String(), errOut.String()}
}

// must runs a command line that has to succeed and write nothing to standard error.
func must(t testing.TB, args ...string) string {
	t.Helper()
	return mustIn(t, "", args...)
}

func mustIn(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	r := nvkvIn(t, stdin, args...)
	if r.code != exitDone || r.errOut != "" {
		t.Fatalf("nvkv %q: exit %d, stderr %q", args, r.code, r.errOut)
	}
	return r.out
}

// fails runs a command line that has to exit with code and write one line to stderr that contains
// each of words.
func fails(t testing.TB, code int, words []string, args ...string) {
	t.Helper()
	r := nvkv(t, args...)
	if r.code != code {
		t.Errorf("nvkv %q: exit %d, want %d; stderr %q", args, r.code, code, r.errOut)
	}
	if strings.Count(r.errOut, "\n") != 1 || !strings.HasPrefix(r.errOut, "nvkv") {
		t.Errorf("nvkv %q: not one line of ours on stderr: %q", args, r.errOut)
	}
	if r.out != "" {
		t.Errorf("nvkv %q: failed, yet wrote %q", args, r.out)
	}
	for _, w := range words {
		if !strings.Contains(r.errOut, w) {
			t.Errorf("nvkv %q: stderr %q does not say %q", args, r.errOut, w)
		}
	}
}

// newStore returns the path of a store with the given keys and values.
func newStore(t testing.TB, pairs ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.nv")
	for i := 0; i < len(pairs); i += 2 {
		must(t, "put", path, "--", pairs[i], pairs[i+1])
	}
	return path
}

// newFile returns the path of a file with the given text.
func newFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
