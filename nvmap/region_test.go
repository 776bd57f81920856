package nvmap

import (
	"math"
	"testing"
)

func TestRegionSize(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("bounds of 64-bit systems")
	}
	for _, c := range []struct {
		asked int64
		heap  bool
		want  int64
	}{
		{0, false, maxBytesDefault}, {-5, false, maxBytesDefault}, {0, true, 256 << 20}, {1, false, 1 << 20},
		{1 << 20, false, 1 << 20}, {1<<20 + 1, false, 1 << 21}, {3 << 30, false, 4 << 30},
		{3 << 30, true, 1 << 30}, {math.MaxInt64, false, 1 << 46},
	} {
		if got := regionSize(c.asked, c.heap); got != c.want {
			t.Errorf("regionSize(%d, %v) = %d, want %d", c.asked, c.heap, got, c.want)
		}
	}
}

func TestRanges(t *testing.T) {
	if from, to := inward(1, 3*PageBytes, PageBytes); from != PageBytes || to != 3*PageBytes {
		t.Errorf("inward: [%d, %d)", from, to)
	}
	if from, to := inward(1, PageBytes, PageBytes); from < to {
		t.Errorf("no whole page, yet [%d, %d)", from, to)
	}
	if from, to := outward(1, PageBytes, PageBytes); from != 0 || to != 2*PageBytes {
		t.Errorf("outward: [%d, %d)", from, to)
	}
	for _, c := range []struct {
		off     Off
		n, size int64
		ok      bool
	}{{0, 0, 0, true}, {0, 1, 0, false}, {4, 6, 10, true}, {4, 7, 10, false}, {math.MaxUint64, 1, 10, false}, {0, -1, 10, false}, {11, 0, 10, false}} {
		if err := checkRange("read", c.off, c.n, c.size); (err == nil) != c.ok {
			t.Errorf("[%d, +%d) of %d: %v", c.off, c.n, c.size, err)
		}
	}
}
