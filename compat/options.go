package compat

import (
	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"

	"nvkv/kv"
)

// Options says how to open an engine. The zero value is each engine as its
// experts would run it, durable at return. A function named after an engine
// is called with the settings this package chose for it and may change any of
// them; the other engines' functions are not called.
type Options struct {
	// Relaxed lets writes return before they are durable, in each engine's own
	// way: nvkv's Relaxed durability, bbolt's NoSync, pebble's NoSync writes. A
	// crash may lose the latest writes; with bbolt it may lose the store. Flush
	// makes what was written durable.
	Relaxed bool

	// ReadOnly opens an existing store without changing it. Writes answer
	// ErrReadOnly.
	ReadOnly bool

	// RawKeys lets bbolt and pebble keep keys exactly as they are, so that other
	// programs read the store and theirs can be read. The empty key is then
	// ErrEmptyKey.
	RawKeys bool

	// Nvkv changes nvkv's settings. It starts from its defaults.
	Nvkv func(*kv.Options)

	// Bbolt changes bbolt's settings. It starts from: hash-map freelist, an
	// initial mapping of 16 GiB (so that writers never wait for readers in
	// order to remap), an immediate answer when the file is locked.
	Bbolt func(*bolt.Options)

	// Pebble changes pebble's settings. It starts from: block cache 1 GiB,
	// memtables of 64 MiB, 4 of them before writes stop, Bloom filters of 10
	// bits per key on every level, L0 compaction threshold 2 and stop 1000,
	// 64 MiB in the base level, the newest format.
	Pebble func(*pebble.Options)
}
