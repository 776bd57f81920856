// Package effort says how much work a test does. There are four forms:
//
//   - Short, go test -short: for use with the race detector, which makes everything slow.
//   - Plain, go test without flags: each test does a sample, and all tests together end within
//     minutes on two busy processors.
//   - Full, NVKV_TEST=full: for .ci/run, before a change lands.
//   - Long, NVKV_TEST=long: for scripts/nightly.
//
// A larger form does more of the same: more seeds, operations and images, or a smaller stride. The
// choice follows from fixed seeds, never from the clock.
package effort

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A Form is an amount of work.
type Form int

// These are the forms. Each does more than the one before.
const (
	Short Form = iota
	Plain
	Full
	Long
)

// Variable is the environment variable that selects a form: "full" or "long".
const Variable = "NVKV_TEST"

// Now returns the selected form. The flag -short takes precedence. It panics if Variable has
// another value.
func Now() Form {
	if testing.Short() {
		return Short
	}
	form, err := named(os.Getenv(Variable))
	if err != nil {
		panic(err)
	}
	return form
}

// named returns the form for a value of Variable.
func named(text string) (Form, error) {
	switch text {
	case "":
		return Plain, nil
	case "full":
		return Full, nil
	case "long":
		return Long, nil
	}
	return Plain, fmt.Errorf("%s=%s: want full or long", Variable, text)
}

// Hang is the time after which a test reports that something is stuck. It is far longer than a
// merely slow machine takes.
const Hang = 5 * time.Minute

// Pick returns the argument for the selected form.
func Pick[T any](short, plain, full, long T) T {
	return [...]T{Short: short, Plain: plain, Full: full, Long: long}[Now()]
}

// Dir returns a new directory for a test's files, which is removed after the test. In the short and
// the plain form it lies on a file system in memory, if there is one, because syncing to a disk
// would take most of the test's time. The other forms use the temporary directory of tests.
func Dir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); Now() >= Full || err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "nvkv-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
