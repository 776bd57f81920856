package compat

// An Exception names a difference between an engine and the interface that an
// adapter cannot remove without changing what the engine is. Where it can, the
// conformance suite demands the difference, so that the list stays true.
type Exception string

const (
	// KeyOver32KiB: bbolt refuses keys over 32,768 bytes, with ErrKeyTooLarge.
	KeyOver32KiB Exception = "key-over-32-kib"

	// LatestMayBeLost: opened with Options.Relaxed, an engine may lose its
	// latest writes in a crash, and bbolt the whole file, because NoSync orders
	// nothing.
	LatestMayBeLost Exception = "latest-may-be-lost"

	// DamageMayPanic: bbolt has no checksums on data pages, so that reading a
	// damaged file may panic, fault or give wrong data. Opening one is guarded.
	DamageMayPanic Exception = "damage-may-panic"
)

// Exceptions returns what an open engine is excused from. An engine that has
// exceptions says so by a method Exceptions() []Exception.
func Exceptions(e Engine) []Exception {
	if excused, ok := e.(interface{ Exceptions() []Exception }); ok {
		return excused.Exceptions()
	}
	return nil
}

// relaxedExceptions are those of any engine opened with Options.Relaxed.
func relaxedExceptions(relaxed bool) []Exception {
	if relaxed {
		return []Exception{LatestMayBeLost}
	}
	return nil
}
