package kv

import "runtime/debug"

// panicOnFault makes memory faults of this goroutine panics, and returns how it
// was before.
func panicOnFault(on bool) bool { return debug.SetPanicOnFault(on) }
