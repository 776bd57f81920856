package compat

// An Exception names a difference between an engine and the interface that an adapter cannot remove
// without changing the nature of the engine. Where possible, the conformance suite requires the
// difference, so that the list stays true.
type Exception string

const (
	// KeyOver32KiB says that bbolt refuses keys over 32,768 bytes, with ErrKeyTooLarge.
	KeyOver32KiB Exception = "key-over-32-kib"

	// LatestMayBeLost says that an engine opened with Options.Relaxed may lose its latest writes in
	// a crash, and bbolt the whole file, because NoSync does not order writes.
	LatestMayBeLost Exception = "latest-may-be-lost"

	// DamageMayPanic says that reading a damaged file may panic, fault or give wrong data, because
	// bbolt has no checksums on data pages. Opening a file is guarded.
	DamageMayPanic Exception = "damage-may-panic"
)

// Exceptions returns the exceptions of an open engine. An engine with exceptions has a method
// Exceptions() []Exception.
func Exceptions(e Engine) []Exception {
	if excused, ok := e.(interface{ Exceptions() []Exception }); ok {
		return excused.Exceptions()
	}
	return nil
}

// relaxedExceptions returns the exceptions of any engine opened with Options.Relaxed.
func relaxedExceptions(relaxed bool) []Exception {
	if relaxed {
		return []Exception{LatestMayBeLost}
	}
	return nil
}
