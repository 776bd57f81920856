package nvmap

import "fmt"

// checkRange returns an error that names the place unless [off, off+n) lies
// inside a device of size bytes.
func checkRange(op string, off Off, n, size int64) error {
	if n >= 0 && n <= size && uint64(off) <= uint64(size-n) {
		return nil
	}
	return fmt.Errorf("nvmap: %s of %d bytes at %#x is outside the device (%d bytes)", op, n, uint64(off), size)
}

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// inward shrinks [off, off+n) to whole units, a power of two; to <= from when
// none is whole.
func inward(off Off, n, unit int64) (from, to int64) {
	return roundUp(int64(off), unit), (int64(off) + n) &^ (unit - 1)
}

// outward widens [off, off+n) to whole units.
func outward(off Off, n, unit int64) (from, to int64) {
	return int64(off) &^ (unit - 1), roundUp(int64(off)+n, unit)
}
