//go:build (!amd64 && !arm64) || purego

package goroutine

const readable = false

func word(uintptr) uint64 { return 0 }
