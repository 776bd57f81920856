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

// TestFourAtOnce compares checksums of equal and of different lengths.
func TestFourAtOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mem := make([]byte, 4096)
	for i := range mem {
		mem[i] = byte(rng.Uint32())
	}
	piece := func(n int) []byte {
		at := rng.IntN(len(mem) - n)
		return mem[at : at+n : at+n]
	}
	for range 20_000 {
		var a, b [4][]byte
		var got [4]uint32
		n := rng.IntN(300)
		for i := range a {
			if rng.IntN(4) == 0 {
				n = rng.IntN(2 * longBytes)
			}
			a[i], b[i] = piece(n), piece([]int{16, 24, 0, 31}[rng.IntN(4)])
		}
		Sum4(&a, &b, &got)
		for i := range got {
			if want := crc32.Update(crc32.Checksum(a[i], table), table, b[i]); got[i] != want {
				t.Fatalf("checksum %d of lengths %d, %d, %d, %d: %#x, want %#x", i, len(a[0]), len(a[1]), len(a[2]), len(a[3]), got[i], want)
			}
		}
	}
}

func BenchmarkFourRecords(b *testing.B) {
	mem := make([]byte, 32*144)
	i := 0
	var body, header [4][]byte
	var sums [4]uint32
	for b.Loop() {
		for j := range body {
			r := mem[144*(i+j) : 144*(i+j)+143]
			body[j], header[j] = r[20:], r[4:20]
		}
		i = (i + 4) % 32
		Sum4(&body, &header, &sums)
		sink += sums[0] + sums[1] + sums[2] + sums[3]
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
