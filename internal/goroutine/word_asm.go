//go:build (amd64 || arm64) && !purego

package goroutine

const readable = true

// word returns the 8 bytes at position at of the calling goroutine's descriptor.
func word(at uintptr) uint64
