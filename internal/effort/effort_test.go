package effort

import "testing"

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
