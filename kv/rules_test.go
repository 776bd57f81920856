package kv

import (
	"strings"
	"testing"

	"nvkv/internal/debug"
)

// Only a debug build can switch a rule off. In other builds the code that asks for it is not
// there, and the tests below run with all rules: .ci/run runs them in a debug build.

// withWithout returns the rules that a test switches off in turn: none, and those of off.
func withWithout(off rules) []rules {
	if debug.On {
		return []rules{0, off}
	}
	return []rules{0}
}

// switches reports whether rules can be switched off, and logs if not.
func switches(t testing.TB) bool {
	t.Helper()
	if !debug.On {
		t.Log("with all rules only: -tags nvkvdebug switches rules off, too")
	}
	return debug.On
}

// needsSwitches skips a test that does nothing but to switch rules off.
func needsSwitches(t testing.TB) {
	t.Helper()
	if !debug.On {
		t.Skip("switches rules off: -tags nvkvdebug")
	}
}

// noticed checks that err is what a test objects to without a rule. An assertion of the debug build
// is no objection: other builds have none.
func noticed(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("without the rule nothing was wrong: the test does not test it")
	}
	text := err.Error()
	for _, assertion := range []string{"kv: lock order: ", "alloc: at 0x", "btree: page ", "btree: leaf "} {
		if strings.Contains(text, assertion) {
			t.Errorf("an assertion came before the objection: %s", text)
		}
	}
	t.Logf("without the rule: %.400s", text)
}
