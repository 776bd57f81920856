// Package kv is an ordered, transactional key-value store for byte-addressable
// memory that keeps its contents, read in place and written once. It runs on
// tmpfs, where it is such memory emulated, and on plain files.
//
//	db, err := kv.Open("/dev/shm/inventory", nil)
//	err = db.Put([]byte("apples"), []byte("7"))
//	n, err := db.Get([]byte("apples"))
//
// A store is one file. Keys have 0 to 65,535 bytes and are ordered bytewise;
// values have 0 bytes to 1 GiB. One process may write a store, or several read
// it.
//
// # What is promised
//
//   - Durability: when [DB.Put], [DB.Delete] or [DB.Write] returns nil, the change
//     survives a crash of the process and, where the device is not volatile, of
//     the machine. [DB.Info] says what the device promises.
//   - Atomicity: a [Batch] is there after a crash as a whole or not at all, and
//     readers see all of it from one instant on.
//   - Isolation: a [Tx] sees the store as it was when it began, for as long as it
//     is open. A read-only one ([DB.View]) holds nobody up. A writable one
//     ([DB.Update]) sees its own changes too, and is the only writer until it ends.
//   - Honesty: what has rotted is [ErrCorrupt] or [ErrMediaFault] with the place,
//     never another value. A full store is [ErrFull] and still takes deletes. After
//     a failed write or fence the store refuses further writes with [ErrFailed]
//     until it is opened again; reads go on.
//
// After ErrFailed the change may be there when the store is opened again, as a
// whole; after any other error it is not.
//
// # Slices
//
// What is passed to a method may be reused as soon as it returns. [DB.Get] and
// [DB.GetAppend] return copies. Slices from a Tx alias the medium: see there. They
// must not be written; on mapped devices a store to them faults.
//
// # How it works
//
// A put writes one record, with its own checksum, into a free slot; fences;
// shows the record in the index; and frees the slot of the version before. There
// is no log, and no byte of a value is written twice. A batch is several records
// under one number and one fence, and so are the calls of several goroutines that
// met.
//
// The changes of a writable Tx stay in DRAM until it is committed, as a batch is.
// A value may carry an expiry ([DB.PutTTL], [DB.PutUntil]), judged by the wall clock
// (Options.Clock); what has expired is absent, and is collected before checkpoints,
// or within some minutes where nobody writes.
// [DB.Expiry], [Cursor.Expiry] and [Batch.ReplayUntil] tell it, so that it can be kept
// where the value is copied to.
//
// The index is a B+-tree of 4 KiB pages. It is read in place and changed in
// DRAM, in copies of pages that a snapshot or a checkpoint still looks at. A
// checkpoint, every 64 MiB of records and at Close, writes the pages that changed
// to new places and then a superblock that names the new root.
//
// Opening a store that was not closed reads the last superblock, what every slab
// is cut into (0.1 % of the store) and the slabs that were written since the last
// checkpoint, and decides which of the records there count. Where they are many
// it returns then: point reads are answered while they are put into the index,
// all else waits for that.
//
//	Put ── checksum ── turn ── slot ── record, mark ── fence ── index ── free old
//	                                                   │
//	Get ── descend by page versions ── record ── validate, else again
//
// docs/design.md has the whole design with its invariants, which the code cites
// as R1 to R15 (transactions, recovery, checkpoints), I1 and up (commits and what
// a recovery reads) and A1 and up (package alloc); docs/format.md has every byte.
//
// # Concurrency
//
// A DB may be used from any number of goroutines. Writers take turns; those that
// wait are committed together by the next one. Point reads take no lock and write
// no shared memory but a counter of calls under way: they read under the versions
// of the pages they pass, and again if one of them changed. A [DB.Scan] of few
// records does the same with all pages that it passes. A writable
// Tx, a Cursor and a Batch are for one goroutine each; a read-only Tx is for many, each
// with cursors and iterators of its own.
//
// # Cost
//
// A put costs one fence, also in a batch of a thousand or a group of callers, and
// its bytes plus 20 (28 in a batch), rounded up to a slot size. The first record
// in a slab after a checkpoint costs 24 bytes more, on the same fence; growing
// the store, by 4 % at a time, takes two fences of its own. Space comes
// back at once for what was overwritten, and with the next checkpoint for what
// was deleted: a tombstone, of a key or of a whole range, takes a slot until then.
//
// With [Options.Durability] Relaxed a put costs no fence: it is shown at once and
// made durable with what else was written, by [DB.Sync] at the latest. A crash then
// loses the newest writes from some point on, whole and in order. What they
// overwrote takes its space until the second fence after. [Tx.SetDurability] chooses
// for one transaction.
//
// A Tx that stays open keeps the versions that it can see, and nothing else:
// [Metrics] counts them.
package kv
