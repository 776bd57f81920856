//go:build amd64 || 386

package nvmap

// x86 keeps loads in order and stores in order. The compiler moves neither across an atomic
// operation, so both barriers are empty.

func loadBarrier() {}

func storeBarrier() {}
