package compat

// MaxKeyBytes is the longest key that the interface allows, in bytes. An
// engine may allow less; see [Exceptions].
const MaxKeyBytes = 65535

// An Engine is an open ordered key-value store.
//
// Keys are ordered bytewise and are 0 to [MaxKeyBytes] long; the empty key is
// a key like any other and nil means empty. Values are 0 bytes or more; a
// stored empty value is not absence. A caller may reuse its key and value
// buffers as soon as a call returns.
//
// All methods may be used from any number of goroutines. Writes are durable
// when they return, unless the engine was opened with Options.Relaxed. A
// write is visible to every read that begins after it returned.
//
// Errors are those of package kv, for errors.Is: a missing key is
// ErrNotFound, any call after Close is ErrClosed.
type Engine interface {
	// Get appends the value of key to dst and returns the result. On an error
	// it returns dst as it was.
	Get(dst, key []byte) ([]byte, error)

	// Put stores value under key.
	Put(key, value []byte) error

	// Delete removes key. Removing an absent key is no error.
	Delete(key []byte) error

	// WriteBatch applies ops in order, all of them or none; the last one on a
	// key wins. An empty batch does nothing. The engine keeps nothing of ops.
	WriteBatch(ops []Op) error

	// Scan calls fn with up to n entries in ascending order from start on
	// (inclusive; nil is the first key), until fn returns false. A negative n
	// sets no bound. All entries belong to one instant. The slices are valid
	// during that call of fn only and must not be written to. fn may read, but
	// not write to the engine or close it or the snapshot: that may wait for
	// the scan, which waits for fn.
	Scan(start []byte, n int, fn func(key, value []byte) bool) error

	// Snapshot returns a view of this instant that later writes do not move.
	// It holds space until it is closed.
	Snapshot() (Reader, error)

	// Flush makes all that was written durable and moves it from log and
	// memory to where the engine keeps it, so that SizeOnDisk and
	// Stats.MediaBytes no longer owe anything that a flush can settle.
	Flush() error

	// SizeOnDisk returns the bytes of disk blocks that the store occupies.
	SizeOnDisk() (int64, error)

	// Stats returns what the engine has done since it was opened. It may be
	// called after Close, and then returns the figures at that moment.
	Stats() Stats

	// Close waits for running calls and releases the store. Open snapshots
	// end: their methods return ErrClosed from then on. A second Close
	// returns nil.
	Close() error
}

// A Reader is a snapshot. It is for one goroutine at a time. After its Close
// its methods return ErrTxClosed; if the engine was closed first, ErrClosed.
type Reader interface {
	// Get is Engine.Get at the instant of the snapshot.
	Get(dst, key []byte) ([]byte, error)

	// Scan is Engine.Scan at the instant of the snapshot.
	Scan(start []byte, n int, fn func(key, value []byte) bool) error

	// Close ends the snapshot. A second Close returns nil.
	Close() error
}

// An Op is one operation of a batch: it stores Value under Key, or removes
// Key when Delete is set.
type Op struct {
	Key, Value []byte
	Delete     bool
}

// userBytes returns the bytes of key and value in ops that count as the
// user's: a delete counts its key.
func userBytes(ops []Op) uint64 {
	var n uint64
	for i := range ops {
		n += uint64(len(ops[i].Key))
		if !ops[i].Delete {
			n += uint64(len(ops[i].Value))
		}
	}
	return n
}
