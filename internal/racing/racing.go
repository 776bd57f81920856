// Package racing says how nvkv's own tests run under the race detector.
package racing

// Heap makes devices in memory and maps take their bytes from the Go heap in race builds, where the
// detector sees each access to them. A store then costs its whole bound, so other programs, which
// run their own tests under the detector, do without. A test package sets it in an init function.
var Heap bool
