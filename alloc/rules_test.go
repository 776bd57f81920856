package alloc

import (
	"testing"

	"nvkv/internal/debug"
)

// switches reports whether rules can be switched off, and logs if not: only a debug build has the
// code for it. .ci/run runs these tests in one.
func switches(t testing.TB) bool {
	t.Helper()
	if !debug.On {
		t.Log("with all rules only: -tags nvkvdebug switches rules off, too")
	}
	return debug.On
}
