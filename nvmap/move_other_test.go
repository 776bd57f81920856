//go:build purego || (!amd64 && !(arm64 && linux))

package nvmap

// lesserCPU does nothing, because there is only one path.
func lesserCPU() (restore func()) { return func() {} }
