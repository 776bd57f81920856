package compat

// An Exception is a difference between an engine and the interface that an
// adapter cannot remove without changing what the engine is.
type Exception string

const (
	// KeyOver32KiB: bbolt refuses keys over 32,768 bytes, with ErrKeyTooLarge.
	KeyOver32KiB Exception = "key-over-32-kib"

	// RelaxedUnsafe: a crash in relaxed mode may leave a bbolt file that cannot
	// be opened, because NoSync orders nothing.
	RelaxedUnsafe Exception = "relaxed-unsafe"

	// FullDiskFatal: pebble ends the process when it cannot write its log, on
	// a full disk for example; it has no way to go on or to fail.
	FullDiskFatal Exception = "full-disk-fatal"

	// WriterWaitsForReader: once a bbolt file outgrows its initial mapping
	// (16 GiB here), a write waits until all snapshots and scans have ended.
	WriterWaitsForReader Exception = "writer-waits-for-reader"
)

// Exceptions returns the named engine's exceptions.
func Exceptions(name string) []Exception {
	switch name {
	case "bbolt":
		return []Exception{KeyOver32KiB, RelaxedUnsafe, WriterWaitsForReader}
	case "pebble":
		return []Exception{FullDiskFatal}
	}
	return nil
}
