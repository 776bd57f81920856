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
//     and bbolt waits for open snapshots for ever, so both sit behind a [gate]:
//     one atomic add on the way in and one on the way out.
//   - Bytes and fences are counted where the engine hands them to the
//     operating system; see [Stats] for the source of each figure.
//   - bbolt has no empty key. Its adapter keeps the value of that one key in a
//     bucket of its own, which ordinary keys never pay for.
//
// What remains different is listed by name in [Exceptions].
package compat
