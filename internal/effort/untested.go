package effort

import (
	"fmt"
	"os"
	"testing"
)

// UntestedVariable is the environment variable that names a file to which [NotTested] appends a
// line for each test that this machine cannot run. .ci/run prints the file at its end, because go
// test prints nothing of a test that it skips.
const UntestedVariable = "NVKV_NOT_TESTED"

// NotTested skips a test, or the rest of it, because the machine lacks something. The text says
// what. A test that a form leaves out calls t.Skip instead.
func NotTested(t testing.TB, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if name := os.Getenv(UntestedVariable); name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatalf("%s: %v", UntestedVariable, err)
		}
		_, err = fmt.Fprintf(f, "%s: %s\n", t.Name(), text)
		if e := f.Close(); err != nil || e != nil {
			t.Fatalf("%s: %v, %v", UntestedVariable, err, e)
		}
	}
	t.Skip("NOT TESTED: " + text)
}
