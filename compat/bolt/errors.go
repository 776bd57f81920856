package bbolt

import "go.etcd.io/bbolt/errors"

// The errors under the names that they had before they got a package of their own.
// Each is the one of the same name there.
var (
	// Deprecated: use errors.ErrDatabaseNotOpen.
	ErrDatabaseNotOpen = errors.ErrDatabaseNotOpen
	// Deprecated: use errors.ErrInvalid.
	ErrInvalid = errors.ErrInvalid
	// Deprecated: use errors.ErrInvalidMapping.
	ErrInvalidMapping = errors.ErrInvalidMapping
	// Deprecated: use errors.ErrVersionMismatch.
	ErrVersionMismatch = errors.ErrVersionMismatch
	// Deprecated: use errors.ErrChecksum.
	ErrChecksum = errors.ErrChecksum
	// Deprecated: use errors.ErrTimeout.
	ErrTimeout = errors.ErrTimeout
	// Deprecated: use errors.ErrTxNotWritable.
	ErrTxNotWritable = errors.ErrTxNotWritable
	// Deprecated: use errors.ErrTxClosed.
	ErrTxClosed = errors.ErrTxClosed
	// Deprecated: use errors.ErrDatabaseReadOnly.
	ErrDatabaseReadOnly = errors.ErrDatabaseReadOnly
	// Deprecated: use errors.ErrFreePagesNotLoaded.
	ErrFreePagesNotLoaded = errors.ErrFreePagesNotLoaded
	// Deprecated: use errors.ErrBucketNotFound.
	ErrBucketNotFound = errors.ErrBucketNotFound
	// Deprecated: use errors.ErrBucketExists.
	ErrBucketExists = errors.ErrBucketExists
	// Deprecated: use errors.ErrBucketNameRequired.
	ErrBucketNameRequired = errors.ErrBucketNameRequired
	// Deprecated: use errors.ErrKeyRequired.
	ErrKeyRequired = errors.ErrKeyRequired
	// Deprecated: use errors.ErrKeyTooLarge.
	ErrKeyTooLarge = errors.ErrKeyTooLarge
	// Deprecated: use errors.ErrValueTooLarge.
	ErrValueTooLarge = errors.ErrValueTooLarge
	// Deprecated: use errors.ErrIncompatibleValue.
	ErrIncompatibleValue = errors.ErrIncompatibleValue
)
