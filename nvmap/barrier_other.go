//go:build !amd64 && !386 && !arm64

package nvmap

import "sync/atomic"

// Go has no portable barrier; a read-modify-write orders both ways everywhere.
var barrierWord atomic.Uint32

func loadBarrier() { barrierWord.Add(0) }

func storeBarrier() { barrierWord.Add(0) }
