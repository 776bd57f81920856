//go:build !nvkvdebug

package kv

import "testing"

// refuseFrom skips the test: only a debug build can refuse allocations.
func refuseFrom(t testing.TB, _ *DB, _ int) {
	t.Helper()
	t.Skip("refuses allocations: -tags nvkvdebug")
}
