package crc32c

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestSameAsStandard compares all lengths and alignments that records have.
func TestSameAsStandard(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mem := make([]byte, 2*longBytes+64)
	for i := range mem {
		mem[i] = byte(rng.Uint32())
	}
	check := func(crc uint32, a, b []byte) {
		t.Helper()
		want := crc32.Update(crc32.Update(crc, table, a), table, b)
		if got := Update(crc, a, b); got != want {
			t.Fatalf("crc %#x, %d and %d bytes: %#x, want %#x", crc, len(a), len(b), got, want)
		}
	}
	for n := range 300 {
		for _, m := range []int{0, 1, 7, 8, 16, 24, 31} {
			at := rng.IntN(16)
			check(0, mem[at:at+n], mem[at+n:at+n+m])
			check(rng.Uint32(), mem[at+n:at+n+m], mem[at:at+n])
		}
	}
	for _, n := range []int{longBytes - 1, longBytes, longBytes + 1} {
		check(rng.Uint32(), mem[:n], mem[n:2*longBytes])
	}
	check(7, nil, nil)
	if got := Sum([]byte("1234"), []byte("56789")); got != 0xe3069283 {
		t.Errorf("the standard's example is %#x", got)
	}
}

func BenchmarkRecord(b *testing.B) {
	mem := make([]byte, 32*144)
	i := 0
	for b.Loop() {
		r := mem[144*i : 144*i+143]
		i = (i + 1) % 32
		sink += Sum(r[20:], r[4:20])
	}
}

func BenchmarkRecordStandard(b *testing.B) {
	mem := make([]byte, 32*144)
	i := 0
	for b.Loop() {
		r := mem[144*i : 144*i+143]
		i = (i + 1) % 32
		sink += crc32.Update(crc32.Checksum(r[20:], table), table, r[4:20])
	}
}

var sink uint32
