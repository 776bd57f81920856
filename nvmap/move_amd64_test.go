//go:build !purego

package nvmap

// lesserCPU makes the assembly use the code for an early amd64 CPU.
func lesserCPU() (restore func()) {
	avx, avx2, back := useAVX, useAVX2, writeBack
	useAVX, useAVX2, writeBack = false, false, backCLFLUSH
	return func() { useAVX, useAVX2, writeBack = avx, avx2, back }
}
