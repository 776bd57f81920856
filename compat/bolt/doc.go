// Package bbolt has the interface of go.etcd.io/bbolt above the store of package kv, so
// that programs which use bbolt run on nvkv by lines in their go.mod alone:
//
//	replace go.etcd.io/bbolt => DIR/compat/bolt
//	replace nvkv => DIR
//
// A database is a file that holds buckets. A bucket holds items, which are keys with
// values, and other buckets. All work happens in transactions: many read-only ones, which
// see the state of the last commit before them, and one writable one at a time.
//
// Files of bbolt are imported by [Open], and [Tx.WriteTo] writes such files.
//
// docs/from-bbolt.md says what differs from bbolt, and has the table of the programs whose
// test suites run on it.
package bbolt
