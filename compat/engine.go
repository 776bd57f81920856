package compat

import "time"

// MaxKeyBytes is the longest key that the interface allows, in bytes. An
// engine may allow less; see [Exceptions].
const MaxKeyBytes = 65535

// An Engine is an open ordered key-value store.
//
// Keys are ordered bytewise and are 0 to [MaxKeyBytes] long. The empty key is a key like any other;
// a nil key is the empty key. Values are 0 bytes or more. A stored empty value differs from an
// absent one. A caller may reuse its key and value buffers as soon as a call returns.
//
// All methods may be used from any number of goroutines. Writes are durable when they return,
// unless the engine was opened with Options.Relaxed. A write is visible to every read that begins
// after it returned.
//
// Errors are those of package kv, for errors.Is: a missing key is ErrNotFound, any call after Close
// is ErrClosed.
type Engine interface {
	// Get appends the value of key to dst and returns the result, which is never nil. On an error
	// it returns dst unchanged.
	Get(dst, key []byte) ([]byte, error)

	// Put stores value under key.
	Put(key, value []byte) error

	// Delete removes key. Removing an absent key is no error.
	Delete(key []byte) error

	// WriteBatch applies ops in order, all of them or none. The last operation on a key wins. An
	// empty batch does nothing. The engine copies ops.
	WriteBatch(ops []Op) error

	// Scan calls fn with up to n entries in ascending order from start on (inclusive; nil is the
	// first key), until fn returns false. A negative n sets no bound. All entries are of one
	// moment. The slices are valid during that call of fn only and must not be written to. fn may
	// read. It must not write to the engine, or close it or the snapshot: such a call may wait for
	// the scan, which waits for fn.
	Scan(start []byte, n int, fn func(key, value []byte) bool) error

	// Snapshot returns a view of the present state that later writes do not change. It occupies
	// space until it is closed.
	Snapshot() (Reader, error)

	// Flush makes all earlier writes durable and moves them from log and memory to their final
	// place. Afterwards SizeOnDisk and Stats.MediaBytes include all of their cost that a flush can
	// include.
	Flush() error

	// SizeOnDisk returns the bytes of disk blocks that the store occupies.
	SizeOnDisk() (int64, error)

	// Stats returns counts since the engine was opened. After Close it returns the counts at that
	// moment.
	Stats() Stats

	// Close waits for running calls and releases the store. It ends open snapshots, whose methods
	// then return ErrClosed. A second Close returns nil.
	Close() error
}

// A Reader is a snapshot. One goroutine at a time may use it. After its Close its methods return
// ErrTxClosed; if the engine was closed first, ErrClosed.
type Reader interface {
	// Get is Engine.Get in the state of the snapshot.
	Get(dst, key []byte) ([]byte, error)

	// Scan is Engine.Scan in the state of the snapshot.
	Scan(start []byte, n int, fn func(key, value []byte) bool) error

	// Close ends the snapshot. A second Close returns nil.
	Close() error
}

// An Op is one operation of a batch: it stores Value under Key or, if Delete is set, removes Key.
type Op struct {
	Key, Value []byte
	Delete     bool
	Expiry     time.Time // when the stored value expires; zero: never. See Expirer
}

// userBytes returns the bytes of keys and values in ops. A delete counts its key.
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

// appendValue never returns nil, because a stored empty value differs from an absent one.
func appendValue(dst, value []byte) []byte {
	if dst == nil {
		dst = make([]byte, 0, len(value))
	}
	return append(dst, value...)
}
