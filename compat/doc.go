// Package compat puts nvkv, bbolt and pebble behind one interface, so that
// the same program, benchmark or test drives all three.
//
// An [Engine] is the intersection of what the three can do, with one meaning
// for each call: ordered keys, durable writes, atomic batches, snapshots.
// Each adapter uses its engine the way people who know it would (see
// [Options]), adds as little as it can to the path of a call, and turns the
// engine's errors into the sentinels of package kv. What they must agree on
// is run, not told: package compat/conformance.
//
// # What an adapter adds
//
//   - A call after Close, or beside it, answers ErrClosed. Pebble panics there
//     and bbolt waits for open snapshots for ever, so both sit behind a gate:
//     one atomic add on the way in and one on the way out.
//   - Bytes and fences are counted where the engine hands them to the
//     operating system; see [Stats] for the source of each figure.
//   - Neither bbolt nor pebble can hold the empty key. Their adapters store
//     keys of zero bytes only with one zero more (keys.go), which costs other
//     keys a look at their first byte.
//
// What remains different is listed by name in [Exceptions].
package compat
