//go:build unix

package nvmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cornered returns n bytes at the end of mapped memory, so that a store or a load beyond them
// faults.
func cornered(t testing.TB, n int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	whole := (n + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	if err := unix.Mprotect(b[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return b[whole-n : whole : whole]
}

func (m mover) move(dst, src []byte) {
	m.store(unsafe.Pointer(unsafe.SliceData(dst)), unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(src)), 0)
}

// TestMoversStoreExactly checks that every mover stores the given bytes at every alignment and
// every length up to a few lines, and changes no other byte.
func TestMoversStoreExactly(t *testing.T) {
	const span, most = 512, 300
	for _, m := range movers() {
		t.Run(m.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			dst, src := cornered(t, span), cornered(t, most)
			want := make([]byte, span)
			for n := range most + 1 {
				for at := range 66 {
					for i := range dst {
						dst[i] = byte(r.Uint32())
					}
					from := src[:n]
					if at%2 == 0 {
						from = src[most-n:] // the last bytes that may be read
					}
					for i := range from {
						from[i] = byte(r.Uint32())
					}
					off := at
					if at == 65 {
						off = span - n // the last bytes that may be written
					}
					copy(want, dst)
					copy(want[off:], from)
					m.move(dst[off:off+n], from)
					m.drain()
					if !bytes.Equal(dst, want) {
						t.Fatalf("%d bytes to offset %d went wrong", n, off)
					}
				}
			}
		})
	}
}

// TestMoversOfLesserCPUs tests the code paths for older CPUs than this one.
func TestMoversOfLesserCPUs(t *testing.T) {
	defer lesserCPU()()
	TestMoversStoreExactly(t)
}

// TestMoversKeepWordsWhole checks that a reader never sees half of an aligned word.
func TestMoversKeepWordsWhole(t *testing.T) {
	if raceEnabled {
		t.Skip("reader and writer race on purpose")
	}
	for _, m := range movers() {
		t.Run(m.name, func(t *testing.T) {
			dst, src := cornered(t, 40*8), make([]byte, 40*8)
			var stop atomic.Bool
			torn := make(chan uint64, 1)
			go func() {
				defer close(torn)
				for !stop.Load() {
					for at := 0; at < len(dst); at += 8 {
						v := atomic.LoadUint64((*uint64)(unsafe.Pointer(&dst[at])))
						if v != v&0xff*0x0101010101010101 {
							torn <- v
							return
						}
					}
				}
			}()
			for i := range 20_000 {
				for j := range src {
					src[j] = byte(i)
				}
				from, to := 8*(i%5), len(src)-8*(i%7)
				m.move(dst[from:to], src[from:to])
			}
			stop.Store(true)
			if v, ok := <-torn; ok {
				t.Errorf("torn word %016x", v)
			}
		})
	}
}

func TestMoverNamed(t *testing.T) {
	for _, m := range movers() {
		if got, err := moverNamed(m.name); err != nil || got.name != m.name {
			t.Errorf("%q: %q, %v", m.name, got.name, err)
		}
	}
	if _, err := moverNamed("carrier pigeon"); err == nil {
		t.Error("an unknown mover is an error")
	}
}

func FuzzStore(f *testing.F) {
	f.Add(uint16(3), []byte("seven b"))
	f.Add(uint16(61), bytes.Repeat([]byte("x"), 200))
	f.Fuzz(func(t *testing.T, at uint16, p []byte) {
		off := int(at % 128)
		for _, m := range movers() {
			got, want := make([]byte, off+len(p)+70), make([]byte, off+len(p)+70)
			copy(want[off:], p)
			m.move(got[off:off+len(p)], p)
			m.drain()
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes to offset %d went wrong", m.name, len(p), off)
			}
		}
	})
}

// BenchmarkMover measures the lower bound of a write: store and drain in a mapping of tmpfs, one
// write after the other or at random in 256 MiB.
func BenchmarkMover(b *testing.B) {
	const span = 256 << 20
	mem := sharedMemory(b, span)
	src := make([]byte, 4096)
	for _, m := range movers() {
		for _, n := range []int{64, 100, 128, 150, 152, 256, 512, 1024, 4096} {
			for _, where := range []string{"seq", "rand"} {
				b.Run(fmt.Sprintf("%s/%d/%s", m.name, n, where), func(b *testing.B) {
					b.SetBytes(int64(n))
					step := (n + 7) &^ 7
					off, x := 0, uint64(88172645463325252)
					for b.Loop() {
						if where == "rand" {
							x ^= x << 13
							x ^= x >> 7
							x ^= x << 17
							off = int(x % span)
						}
						off = (off + step) % (span - 8192) &^ 7
						m.move(mem[off:off+n], src[:n])
						m.drain()
					}
				})
			}
		}
	}
}
