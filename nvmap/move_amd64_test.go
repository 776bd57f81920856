//go:build !purego

package nvmap

// lesserCPU makes the assembly believe in an early amd64 CPU.
func lesserCPU() (restore func()) {
	avx, back := useAVX, writeBack
	useAVX, writeBack = false, backCLFLUSH
	return func() { useAVX, writeBack = avx, back }
}
