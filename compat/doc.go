// Package compat puts nvkv, bbolt and pebble behind one interface, so that one program, benchmark
// or test can use all three.
//
// An [Engine] is the intersection of their abilities, with one meaning for each call: ordered keys,
// durable writes, atomic batches, snapshots. Each adapter uses its engine in the way that experts
// would (see [Options]), adds as little as possible to the path of a call, and turns the engine's
// errors into the sentinels of package kv. Package compat/conformance tests that the adapters
// agree.
//
// An ability of a single engine has an interface of its own, for use with a type assertion:
// [Expirer] is for entries that expire.
//
// # What an adapter adds
//
//   - A call after Close, or during it, returns ErrClosed. Pebble would panic then, and bbolt would
//     wait for open snapshots for ever. So both sit behind a gate, which costs one atomic add at
//     the beginning of a call and one at its end.
//   - Bytes and fences are counted where the engine hands them to the operating system; see [Stats]
//     for the source of each figure.
//   - Neither bbolt nor pebble can hold the empty key. Their adapters add one zero byte to keys of
//     zero bytes only (keys.go). Other keys cost a look at their first byte.
//
// [Exceptions] names the remaining differences.
package compat
