// Package conformance checks that an engine keeps the promises of [compat.Engine].
//
// It serves authors of adapters: call [Run] from a test with a function that opens the engine in a
// directory. Every case is a subtest that can be run alone, uses a fresh directory and is named
// after its subject. An engine that differs for good reason names the difference (see
// [compat.Exception]); the case then requires the difference instead.
//
// The cases use an engine only through its interface. They test durability against a killed process
// (the files are copied while the engine is open), not against a power failure.
package conformance

import (
	"slices"
	"testing"

	"nvkv/compat"
)

// Run checks the engine that open returns. If open gets a directory that was used before, the
// engine must have the contents stored there.
func Run(t *testing.T, open func(dir string) (compat.Engine, error)) {
	for _, c := range slices.Concat(pointCases, scanCases, batchCases, expiryCases, conditionalCases, snapshotCases, lifeCases, concurrentCases) {
		t.Run(c.name, func(t *testing.T) { c.run(newStore(t, open)) })
	}
}

// A testCase tests one promise.
type testCase struct {
	name string
	run  func(*store)
}
