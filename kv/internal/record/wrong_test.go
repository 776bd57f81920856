package record

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWrongByte: every wrong byte of a record, with every error, is found, or is one of the bytes
// that state a length.
func TestWrongByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		want, b := made(rng, 7, 3, 0)
		lengths := LengthBytes(b)
		for at := range b {
			wrong := byte(1 + rng.IntN(255))
			b[at] ^= wrong
			if !slices.Contains(lengths, at) {
				var r Record
				if !r.Parse(b) || r.Sealed(b, 7, 3, place) {
					t.Fatalf("byte %d of %d: no record, or one that passes", at, len(b))
				}
				if gotAt, got, ok := r.WrongByte(b, 7, 3, place); !ok || gotAt != at || got != wrong {
					t.Fatalf("byte %d of %+v by %#x: found %d by %#x, %v", at, want, wrong, gotAt, got, ok)
				}
			}
			b[at] ^= wrong
		}
	}
}

// TestCarveOf: CarveOf finds the carve number with which a record passes.
func TestCarveOf(t *testing.T) {
	r, b := made(rand.New(rand.NewPCG(7, 8)), 7, 1000, 0)
	for _, c := range []struct {
		from, end int64
		ok        bool
	}{{1, 1025, true}, {1000, 1001, true}, {1, 1000, false}, {1001, 2000, false}, {5, 5, false}, {0, -1, false}} {
		carve, ok := r.CarveOf(b, 7, place, c.from, c.end)
		if ok != c.ok || ok && carve != 1000 {
			t.Errorf("[%d, %d): %d, %v", c.from, c.end, carve, ok)
		}
	}
}

// FuzzWrongByte: the byte that WrongByte returns lies in the record, and the record passes after
// its correction, unless the byte states a length.
func FuzzWrongByte(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 10))
	for i := range 8 {
		_, b := made(rng, 7, 3, 0)
		b[rng.IntN(len(b))] ^= 1 << i
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, at := range LengthBytes(append(bytes.Clone(b), make([]byte, MaxHeaderBytes)...)) {
			if at < 0 {
				t.Fatalf("length at %d", at)
			}
		}
		var r Record
		if !r.Parse(b) {
			return
		}
		at, wrong, ok := r.WrongByte(b, 7, 3, place)
		if !ok {
			return
		}
		if at < 0 || at >= r.Size || wrong == 0 && !r.Sealed(b, 7, 3, place) {
			t.Fatalf("byte %d of %d is wrong by %#x", at, r.Size, wrong)
		}
		own := bytes.Clone(b)
		own[at] ^= wrong
		if !slices.Contains(LengthBytes(b), at) && (!r.Parse(own) || !r.Sealed(own, 7, 3, place)) {
			t.Fatalf("byte %d by %#x: does not pass turned back", at, wrong)
		}
	})
}
