package effort

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNamed(t *testing.T) {
	for text, want := range map[string]Form{"": Plain, "full": Full, "long": Long} {
		if got, err := named(text); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := named("lnog"); err == nil {
		t.Error("a form that does not exist was taken")
	}
}

func TestPick(t *testing.T) {
	if testing.Short() {
		if got := Pick(0, 1, 2, 3); got != 0 {
			t.Errorf("-short picks %d", got)
		}
		return
	}
	for text, want := range map[string]int{"": 1, "full": 2, "long": 3} {
		t.Setenv(Variable, text)
		if got := Pick(0, 1, 2, 3); got != want {
			t.Errorf("%q picks %d, want %d", text, got, want)
		}
	}
}

// TestNotTested checks that a test which the machine cannot run is written down and skipped.
func TestNotTested(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list")
	t.Setenv(UntestedVariable, file)
	skipped := false
	for _, what := range []string{"no disk", "no net"} {
		t.Run(what, func(t *testing.T) {
			defer func() { skipped = t.Skipped() }()
			NotTested(t, "%s here", what)
			t.Error("the test went on")
		})
	}
	text, err := os.ReadFile(file)
	want := "TestNotTested/no_disk: no disk here\nTestNotTested/no_net: no net here\n"
	if string(text) != want || err != nil || !skipped {
		t.Errorf("%q, %v, skipped %v", text, err, skipped)
	}
}
