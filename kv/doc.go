// Package kv is an ordered, transactional, embedded key-value store for byte-addressable
// non-volatile memory and for ordinary files. It reads records in place and writes each record
// once. On tmpfs it runs on emulated non-volatile memory.
//
//	db, err := kv.Open("/dev/shm/inventory", nil)
//	err = db.Put([]byte("apples"), []byte("7"))
//	n, err := db.Get([]byte("apples"))
//
// A store is one file or one device. Keys have 0 to 65,535 bytes and are ordered bytewise. Values
// have 0 bytes to 1 GiB. Either one process may have a store open for writing, or several for
// reading.
//
// # What is promised
//
//   - Durability: when [DB.Put], [DB.Delete] or [DB.Write] returns nil, the change survives a crash
//     of the process and, if the device is not volatile, of the machine. [DB.Info] says what the
//     device promises.
//   - Atomicity: after a crash a [Batch] is there as a whole or not at all. Readers see all of it
//     from one instant on.
//   - Isolation: a [Tx] sees the store as it was when it began, for as long as it is open. A
//     read-only one ([DB.View]) holds up no other goroutine. A writable one ([DB.Update]) sees its
//     own changes too, and is the only writer until it ends.
//   - Damage is reported: a read of rotten data returns [ErrCorrupt] or [ErrMediaFault] with the
//     place, never another value.
//   - A full store returns [ErrFull] and still takes deletes.
//   - After a failed write or fence the store refuses further writes with [ErrFailed] until it is
//     opened again. Reads continue.
//
// After ErrFailed, the change may be there as a whole when the store is opened again. After any
// other error it is not.
//
// # Slices
//
// A caller may reuse the slices that it passed as soon as the method has returned. [DB.Get] and
// [DB.GetAppend] return copies. Slices from a Tx alias the medium and are valid for a limited time,
// see [Tx]. The caller must not write to them. On mapped devices, which the CPU addresses like
// memory, writing to them faults.
//
// # How it works
//
// The medium is divided into slabs of 64 KiB, each cut into slots of one size. A put writes one
// record into a free slot: key, value, transaction number and checksum. Then it fences: a fence
// returns when all earlier writes are durable. Then it shows the record in the index and frees the
// slot of the previous version. There is no log. A put writes its value once; only a move out of a
// sparse slab, or a recovery, writes it again. A batch is several records under one number and one
// fence. The calls of several goroutines that write at the same time are combined in the same way.
//
// The changes of a writable Tx stay in DRAM until it is committed, like a batch. A value may have
// an expiry ([DB.PutTTL], [DB.PutUntil]) by the wall clock (Options.Clock). An expired value is
// absent. It is collected before checkpoints or, if nothing is written, within some minutes.
// [DB.Expiry], [Cursor.Expiry] and [Batch.ReplayUntil] return the expiry, for programs that copy
// values.
//
// The index is a B+-tree of 4 KiB pages. Pages are read in place and changed in DRAM. A page that a
// snapshot or a checkpoint uses is copied before it is changed. A checkpoint, every 64 MiB of
// records and at Close, writes the changed pages to new places and then the superblock, the block
// that an opening reads first. It names the new root.
//
// Opening a store that was not closed reads the last superblock, a descriptor for every slab (0.1 %
// of the store) and the slabs that were written since the last checkpoint. It decides which records
// in those slabs count, and replays these: it puts them into the index. Open returns before the
// replay if it found at least 2,048 records, or any in a store of 2,048 slabs (128 MiB), but not if
// one of the records is damaged or has its key in runs of pages. Then Get, GetAppend and Has are
// answered beside the replay; all other calls wait for its end.
//
//	Put -- checksum -- turn -- slot -- record, mark -- fence -- index -- free old
//	                                                            |
//	Get -- descend by page versions -- record -- validate, else again
//
// docs/design.md describes the whole design and defines its terms. It lists the invariants, which
// the code cites by number: R (the protocol of transactions, checkpoints and recovery), I (further
// rules of package kv) and A (package alloc). docs/format.md defines every byte on the medium.
//
// # Where to begin
//
//   - A put: [DB.Put] in db.go, then commit.go (reserve, fence), place.go (store), publish.go.
//   - A get: [DB.Get] in db.go, then read.go and internal/btree/lookup.go.
//   - Freeing: holder.go, which says when a page or a record may be reused.
//   - A checkpoint: checkpoint.go. A recovery: recover.go, then replay.go.
//
// # Concurrency
//
// All methods of a DB may be called from any number of goroutines. Writers take turns. Those that
// wait are committed together by the next one. On a mapped device point reads take no lock and,
// once their pages have been met, write no shared memory but a counter of calls under way. They
// validate the versions of the pages that they pass, and read again if one of them changed. A read
// that loses three such races, or whose value is too large for a slot, opens a snapshot. A
// [DB.Scan] of few records does the same. A writable Tx, a Cursor and a Batch are for one goroutine
// at a time. A read-only Tx is for many, each with cursors and iterators of its own.
//
// # Cost
//
// A put costs one fence; so does a batch of a thousand puts, or a group of callers. It writes its
// bytes plus 20 (28 in a batch or a group, 8 more with an expiry), rounded up to 8, and takes the
// next larger slot. The first record in a slab after a checkpoint costs 24 bytes more, under the
// same fence. Growing the store takes two fences of its own. It grows by 4 % at a time, by at least
// 8 slabs, and by at most 8 MiB unless one commit needs more.
//
// The space of overwritten and of deleted values is free at once, with three exceptions. What a
// snapshot sees waits for the end of the snapshot. A value whose key has over 4 KiB, if both
// together exceed a slot, waits with the key for the next checkpoint. What [DB.DeleteRange] removed
// is freed in steps, beside other work. The tombstone of a deleted key or range takes a slot until
// the next checkpoint.
//
// With [Options.Durability] Relaxed a put costs no fence. It is visible at once and becomes durable
// together with other writes: after 4 MiB, after 100 ms, at a checkpoint, or in [DB.Sync]. A crash
// then loses the newest writes from some point on, whole and in order. The space of overwritten
// values is free after two more fences. [Tx.SetDurability] chooses for one transaction.
//
// An open Tx pins the versions that it can see, and nothing else. [Metrics] counts them.
package kv
