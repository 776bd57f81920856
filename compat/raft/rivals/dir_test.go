package rivals

import (
	"os"
	"testing"
)

// mkdir makes a directory that lives as long as the test.
func mkdir(t testing.TB, dir string) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
}
