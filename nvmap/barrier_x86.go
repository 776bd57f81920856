//go:build amd64 || 386

package nvmap

// x86 keeps loads in order and stores in order, and the compiler moves neither
// across an atomic operation.

func loadBarrier() {}

func storeBarrier() {}
