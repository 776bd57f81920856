package nvmap

import (
	"testing"
	"unsafe"
)

// Memory is zeroed, aligned to a cache line, as long as asked for, and can be given back.
func TestMemory(t *testing.T) {
	for _, n := range []int64{64, 4096, minRegionBytes, 3<<20 + 64} {
		b, release, err := Memory(n)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(b)) != n || cap(b) != len(b) || uintptr(unsafe.Pointer(&b[0]))%lineBytes != 0 {
			t.Errorf("%d bytes: %d, capacity %d, at %p", n, len(b), cap(b), &b[0])
		}
		for i, v := range b {
			if v != 0 {
				t.Fatalf("byte %d of %d is %d", i, n, v)
			}
			b[i] = 1
		}
		release()
	}
}
