//go:build !amd64 && !386 && !arm64

package nvmap

import "sync/atomic"

// barrierWord serves as a barrier, because Go has no portable one. An atomic read-modify-write
// orders both ways on every architecture.
var barrierWord atomic.Uint32

func loadBarrier() { barrierWord.Add(0) }

func storeBarrier() { barrierWord.Add(0) }
