package compat

import (
	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"

	"nvkv/kv"
)

// Options are the options of Open. With the zero value each engine has the settings that its
// experts would choose, and writes are durable when they return. A function named after an engine
// gets the settings of this package for it and may change any of them. The functions of the other
// engines are not called.
type Options struct {
	// Relaxed lets writes return before they are durable, by each engine's own means: nvkv's
	// Relaxed durability, bbolt's NoSync, pebble's NoSync writes. A crash may lose the latest
	// writes; with bbolt it may lose the store. Flush makes earlier writes durable.
	Relaxed bool

	// ReadOnly opens an existing store without changing it. Writes return ErrReadOnly.
	ReadOnly bool

	// RawKeys makes bbolt and pebble store keys unchanged, so that stores can be exchanged with
	// other programs. The empty key then gives ErrEmptyKey.
	RawKeys bool

	// Nvkv changes nvkv's settings, beginning with its defaults.
	Nvkv func(*kv.Options)

	// Bbolt changes bbolt's settings. They begin as: hash-map freelist, an initial mapping of 16
	// GiB (so that writers never wait for readers in order to remap), an immediate error if the
	// file is locked.
	Bbolt func(*bolt.Options)

	// Pebble changes pebble's settings. They begin as: block cache 1 GiB, memtables of 64 MiB, 4 of
	// them before writes stop, Bloom filters of 10 bits per key on every level, L0 compaction
	// threshold 2 and stop 1000, 64 MiB in the base level, the newest format.
	Pebble func(*pebble.Options)
}
