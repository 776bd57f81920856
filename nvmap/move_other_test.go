//go:build purego || (!amd64 && !(arm64 && linux))

package nvmap

// lesserCPU does nothing: there is one path.
func lesserCPU() (restore func()) { return func() {} }
