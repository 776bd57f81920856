// Package protocol is a bounded model of how package kv commits, checkpoints
// and recovers: small enough that every history of a few operations, every
// state that a power failure or a killed process may leave of it, and what
// comes after its recovery can be looked at.
//
// It models what the invariants of docs/design.md say of records, marks, trees
// and superblocks: put, delete, batches, deleted ranges (I42), moves out of
// sparse slabs (I21), expiry (R7), freeze and flip (R8, I4), groups of relaxed
// mode (I41, R2), recovery and the run that it begins (R4, R12). Operations are
// written as the store has them, step by step: what is written, where the fence
// is, what is free afterwards. At every fence, and between operations, the
// explorer lets the power fail, or kills the process, in every way, recovers,
// and goes on from there.
//
// A key must then have a value that the history allows: with the call's
// durability promised, the last acknowledged one or, inside a commit, the one
// in flight; in relaxed mode, all keys together, the state behind some commit
// since the last fence.
//
// Each rule can be switched off, and the explorer must then find a history that
// goes wrong: what it cannot tell apart it does not prove.
//
// It knows nothing of sizes, slabs that are carved anew, snapshots, pages that
// are written early, or goroutines: package kv's own crash tests do.
package protocol
