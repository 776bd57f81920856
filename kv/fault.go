package kv

import "runtime/debug"

// panicOnFault sets whether memory faults of this goroutine are panics, and returns the previous
// setting.
func panicOnFault(on bool) bool { return debug.SetPanicOnFault(on) }
