//go:build linux && !purego

package nvmap

// lesserCPU makes the assembly use the code for a CPU without DC CVAP.
func lesserCPU() (restore func()) {
	old := cleanToPersistence
	cleanToPersistence = false
	return func() { cleanToPersistence = old }
}
