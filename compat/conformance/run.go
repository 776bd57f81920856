// Package conformance checks that an engine keeps the promises of
// [compat.Engine].
//
// It is meant for whoever writes an adapter: call [Run] from a test and give
// it a way to open the engine in a directory. Every case is a subtest that
// can be run alone, uses a fresh directory and says in its name what it is
// about. An engine that differs for good reason names the difference (see
// [compat.Exception]); the case then demands the difference instead.
//
// The cases look at an engine only through its interface. Durability is seen
// as a killed process would leave it (the files copied while the engine is
// open), not as a power failure would.
package conformance

import (
	"slices"
	"testing"

	"nvkv/compat"
)

// Run checks the engine that open returns. Calls of open with a directory
// that was used before must find what was stored there.
func Run(t *testing.T, open func(dir string) (compat.Engine, error)) {
	for _, c := range slices.Concat(pointCases, scanCases, batchCases, snapshotCases, lifeCases, concurrentCases) {
		t.Run(c.name, func(t *testing.T) { c.run(newStore(t, open)) })
	}
}

// A testCase is one promise.
type testCase struct {
	name string
	run  func(*store)
}
