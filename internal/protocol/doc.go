// Package protocol is a bounded model of how package kv commits, checkpoints and recovers. It is
// small enough to examine every history of a few operations, every state that a power failure or a
// killed process may leave, and the histories after its recovery.
//
// It models the invariants of docs/design.md on records, marks, trees and superblocks: put, delete,
// batches, deleted ranges (I12), moves out of sparse slabs (I8), expiry (R7), freeze and flip (R8,
// I4), groups of relaxed mode (I11, R2), snapshots (I9), recovery and the run that it begins (R4,
// R12). Operations consist of the same steps as in the store: the writes, the fence, and the slots
// that are free afterwards.
//
// It also models commits of single records side by side, in up to three lanes (L1 to L12). The
// steps of the lanes are mixed in every way: descent, latch and mark, fence of the mark, record and
// search of the leaf, fence, change of the leaf. Beside them come splits, snapshots, checkpoints,
// and, while no lane is busy, all other operations.
//
// At every fence, and between operations and steps, the explorer lets the power fail or kills the
// process in every way, recovers, and continues.
//
// Afterwards each key must have a value that the history allows. If the call promises durability,
// that is the last acknowledged value, or that of a commit under way. In relaxed mode all keys
// together must have the state after some commit since the last fence.
//
// Each rule can be switched off, and the explorer must then find a history that goes wrong. A rule
// without such a history is not tested by the model.
//
// The model has no sizes, slabs that are carved anew, pages that are written early, or goroutines.
// The crash tests of package kv cover these.
package protocol
