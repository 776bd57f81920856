package nvmap

import "fmt"

// checkRange returns an error that names the range unless [off, off+n) lies inside a device of size
// bytes.
func checkRange(op string, off Off, n, size int64) error {
	if n >= 0 && n <= size && uint64(off) <= uint64(size-n) {
		return nil
	}
	return fmt.Errorf("nvmap: %s of %d bytes at %#x is outside the device (%d bytes)", op, n, uint64(off), size)
}

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// inward shrinks [off, off+n) to whole units. unit is a power of two. If no unit is whole, to <=
// from.
func inward(off Off, n, unit int64) (from, to int64) {
	return roundUp(int64(off), unit), (int64(off) + n) &^ (unit - 1)
}

// outward widens [off, off+n) to whole units.
func outward(off Off, n, unit int64) (from, to int64) {
	return int64(off) &^ (unit - 1), roundUp(int64(off)+n, unit)
}
