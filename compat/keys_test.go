package compat

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestStoredKeys(t *testing.T) {
	// Few byte values and short keys make zeros and prefixes common.
	keys := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 0, 1, 255}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys.Draw(t, "a"), keys.Draw(t, "b")
		storedA, storedB := nonEmpty(a), nonEmpty(b)
		if len(storedA) == 0 {
			t.Fatalf("%q is stored under the empty key", a)
		}
		if got, want := bytes.Compare(storedA, storedB), bytes.Compare(a, b); got != want {
			t.Fatalf("%q and %q compare %d, stored %d", a, b, want, got)
		}
		if got := original(storedA); !bytes.Equal(got, a) {
			t.Fatalf("%q comes back as %q", a, got)
		}
	})
}
