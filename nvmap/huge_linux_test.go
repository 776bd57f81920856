package nvmap_test

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// anonHugeBytes returns the number of bytes of the process in transparent huge pages.
func anonHugeBytes(t testing.TB) int64 {
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		effort.NotTested(t, "%v", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(s.Text(), "AnonHugePages: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	effort.NotTested(t, "the kernel does not count huge pages")
	return 0
}

func TestHugeFrames(t *testing.T) {
	if raceEnabled {
		t.Skip("race builds keep frames on the heap")
	}
	if mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || string(mode[len(mode)-8:]) == "[never]\n" {
		effort.NotTested(t, "this system has no transparent huge pages")
	}
	const size = 16 << 20
	before := anonHugeBytes(t)
	m, err := nvmap.NewMap(nvmap.NewMem(1<<30), &nvmap.MapOptions{HugeFrames: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Grow(size); err != nil {
		t.Fatal(err)
	}
	for p := range nvmap.PageID(size / nvmap.PageBytes) {
		frame(t, m, p)[0] = 1
	}
	if got := anonHugeBytes(t) - before; got < size/2 {
		t.Errorf("%d of %d bytes of frames lie in huge pages", got, size)
	}
}

// BenchmarkRandomFrame reads frames in random order. Each read decides the next.
func BenchmarkRandomFrame(b *testing.B) {
	const size = 1 << 30
	for _, huge := range []bool{false, true} {
		b.Run(fmt.Sprintf("huge=%v", huge), func(b *testing.B) {
			m, err := nvmap.NewMap(nvmap.NewMem(size), &nvmap.MapOptions{HugeFrames: huge})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			if err := m.Grow(size); err != nil {
				b.Fatal(err)
			}
			const pages = size / nvmap.PageBytes
			for p := range nvmap.PageID(pages) {
				f := frame(b, m, p)
				for at := range f {
					f[at] = 1
				}
			}
			x, one := uint64(1), uint64(1)
			for b.Loop() {
				x = x*6364136223846793005 + 1442695040888963407*one
				p := nvmap.PageID(x >> 20 % pages)
				one = uint64(m.Page(p)[x>>52])
			}
		})
	}
}
