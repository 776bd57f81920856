//go:build (amd64 || arm64) && !purego

package goroutine

const readable = true

// word returns 8 bytes of the calling goroutine's descriptor.
func word(at uintptr) uint64
