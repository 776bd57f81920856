//go:build !nvkvdebug

package alloc

// refusal makes allocations fail for tests, in debug builds. Elsewhere it is nothing.
type refusal struct{}

func (refusal) next() error { return nil }
