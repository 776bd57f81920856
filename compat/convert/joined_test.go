package convert

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestJoinedKeys checks that splitting restores paths, and that joined keys have the order of a
// walk through the buckets.
func TestJoinedKeys(t *testing.T) {
	name := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 254, 255}), 1, 4)
	path := rapid.SliceOfN(name, 1, 4) // the last is the key
	rapid.Check(t, func(t *rapid.T) {
		a, b := path.Draw(t, "a"), path.Draw(t, "b")
		joinedA, joinedB := join(a), join(b)
		buckets, key, err := splitJoined(joinedA)
		if err != nil || !slices.EqualFunc(append(buckets, key), a, bytes.Equal) {
			t.Fatalf("%q is joined to %q and split to %q, %q, %v", a, joinedA, buckets, key, err)
		}
		if sharesName(a, b) {
			return
		}
		want := slices.CompareFunc(a, b, bytes.Compare)
		if got := bytes.Compare(joinedA, joinedB); got != want {
			t.Fatalf("%q and %q compare %d, joined %d", a, b, want, got)
		}
	})
}

func join(path [][]byte) []byte {
	var joined []byte
	for _, name := range path[:len(path)-1] {
		joined = appendBucket(joined, name)
	}
	return appendEscaped(joined, path[len(path)-1])
}

// sharesName reports whether a name is the key of one path and a bucket of the other, which a file
// cannot have.
func sharesName(a, b [][]byte) bool {
	n := min(len(a), len(b))
	return len(a) != len(b) && slices.EqualFunc(a[:n], b[:n], bytes.Equal)
}

func FuzzSplitJoined(f *testing.F) {
	f.Add([]byte("a\x00\x01b\x00\xffc"))
	f.Add([]byte("a\x00"))
	f.Fuzz(func(t *testing.T, joined []byte) {
		buckets, key, err := splitJoined(joined)
		if err != nil {
			return
		}
		if got := join(append(buckets, key)); !bytes.Equal(got, joined) {
			t.Fatalf("%q is split to %q, %q and joined to %q", joined, buckets, key, got)
		}
	})
}
