// Package errors has the errors that the drop-in returns, under the names and with
// the texts that programs written for bbolt compare with.
package errors

import "errors"

// Errors of opening a database and of calls on one that is not open.
var (
	// ErrDatabaseNotOpen: the database was closed, or not opened yet.
	ErrDatabaseNotOpen = errors.New("database not open")

	// ErrInvalid: the file is neither a store of nvkv nor a database of bbolt.
	ErrInvalid = errors.New("invalid database")

	// ErrInvalidMapping is never returned: there is no mapping that could be lost.
	ErrInvalidMapping = errors.New("database isn't correctly mapped")

	// ErrVersionMismatch: the file was written by a later version.
	ErrVersionMismatch = errors.New("version mismatch")

	// ErrChecksum: the file is damaged, so that it cannot be opened.
	ErrChecksum = errors.New("checksum error")

	// ErrTimeout: another owner did not close the file within Options.Timeout.
	ErrTimeout = errors.New("timeout")
)

// Errors of transactions.
var (
	// ErrTxNotWritable: a read-only transaction was asked to write.
	ErrTxNotWritable = errors.New("tx not writable")

	// ErrTxClosed: the transaction was committed or rolled back before.
	ErrTxClosed = errors.New("tx closed")

	// ErrDatabaseReadOnly: a writable transaction of a database that was opened
	// read-only.
	ErrDatabaseReadOnly = errors.New("database is in read-only mode")

	// ErrFreePagesNotLoaded is never returned: what is free is always known.
	ErrFreePagesNotLoaded = errors.New("free pages are not pre-loaded")
)

// Errors of buckets and of what they hold.
var (
	// ErrBucketNotFound: no bucket has this name, or it was deleted.
	ErrBucketNotFound = errors.New("bucket not found")

	// ErrBucketExists: a bucket with this name is there already.
	ErrBucketExists = errors.New("bucket already exists")

	// ErrBucketNameRequired: the name of a bucket is empty.
	ErrBucketNameRequired = errors.New("bucket name required")

	// ErrKeyRequired: a key is empty.
	ErrKeyRequired = errors.New("key required")

	// ErrKeyTooLarge: a key is longer than MaxKeySize.
	ErrKeyTooLarge = errors.New("key too large")

	// ErrValueTooLarge: a value is longer than values may be, which is 1 GiB less one
	// byte here.
	ErrValueTooLarge = errors.New("value too large")

	// ErrMaxSizeReached: the transaction would make the database larger than MaxSize.
	ErrMaxSizeReached = errors.New("database reached maximum size")

	// ErrIncompatibleValue: a bucket is where a value was expected, or a value where a
	// bucket was.
	ErrIncompatibleValue = errors.New("incompatible value")

	// ErrSameBuckets: a bucket was to be moved to where it is.
	ErrSameBuckets = errors.New("the source and target are the same bucket")

	// ErrDifferentDB: a bucket was to be moved into another transaction or database.
	ErrDifferentDB = errors.New("the source and target buckets are in different database files")
)
