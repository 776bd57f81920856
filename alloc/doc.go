// Package alloc allocates space on a non-volatile device: slots for records, pages and blocks for
// an index, and runs of pages for large values. It keeps its records of used space in DRAM and
// writes very little. So the contents of a slot must show by themselves whether they count.
//
// It stands between nvkv/nvmap, which handles bytes, and nvkv/kv, which handles keys, and can be
// used without kv. An [Allocator] hands out pieces and stores a root. [Slabs] implements that
// interface with this package's allocator, [Buddy] with a simple one, and examples/plist is a list
// on top of either. A user that needs kinds of slabs, checkpoints and maps uses a [Region]
// directly.
//
// # Terminology
//
//   - slab: the unit of space, 64 KiB unless the store was created otherwise
//   - slot: a piece of a slab; all slots of a slab have one size
//   - kind: the use of a slab: records, index pages, value blocks, or pages that are handed out in
//     runs
//   - class: the slot size of a record slab, from 32 bytes to a quarter of a slab
//   - carve: to divide a free slab into slots; the carve number counts the carvings of a slab
//   - identity: the kind, class and carve number of a slab
//   - group: a stretch of slabs that grows at once, 64 slabs by default; the first of them hold
//     metadata on all
//   - descriptor: a line of metadata per slab, with its identity and its mark
//   - used: handed out, not to be handed out again
//   - live: reached by the user's index
//   - map: the live bits of a slab, on the medium
//   - checkpoint: a consistent state of the index and the maps on the medium; it is frozen in DRAM,
//     then written, and it flips when the superblock that names it is durable
//   - interval: the time between two freezes, counted
//   - mark: the interval in which a slab was last written into
//   - superblock: the first structure that an opening reads; it carries a payload of the user
//   - generation: the number of a superblock
//
// # Layout
//
// A device has a head page with two words, two generations of superblocks, each stored twice, and
// groups:
//
//	| head | superblocks | group 0                                    | group 1 ...
//	                     | header, descriptors, maps | slab | slab .. |
//
// Growth appends groups and moves nothing. docs/format.md describes every field.
//
// # Used and live
//
// Each slab has two bitmaps in DRAM. A slot is used from Alloc to Free. It is live from SetLive to
// ClearLive: the user calls these when its index begins or ceases to reach the slot. Only the live
// bits are written to the medium, with a checkpoint (FreezeMaps, WriteMaps). A slot that is used
// and not live belongs to something that ends with a crash, so the crash frees the slot.
//
// So allocating and freeing cost no write and no fence. Touch writes a line of 24 bytes when the
// first slot of a slab in a checkpoint interval is written. The line holds the identity of the slab
// and its mark, and shares the fence of the record that it announces.
//
// # Crash safety
//
//   - A1. The magic word says "creating" until all else is fenced. A crash while creating leaves a
//     device that counts as absent, or an empty store.
//   - A2. The second copy of a superblock is written after the first is fenced: a crash spoils at
//     most one of them.
//   - A3. A generation without a good copy is corruption, never a reason to use the one before:
//     space that the older one names may have been reused.
//   - A4. The identity of a slab is durable no later than the first slot in it that counts. Every
//     carving has a number of its own, which must be part of the checksum of the contents of slots.
//   - A5. The metadata of new groups is fenced before the size word that includes them, and the
//     size word is fenced before the first slab in them is carved. The metadata says explicitly
//     that no slab was ever carved, so zeros are damage.
//   - A6. A map of a checkpoint that did not flip, or that a crash tore, is made obsolete by the
//     next checkpoint that does. The digest of all maps (MapDigest) distinguishes it from a map
//     that counts.
//   - A7. The data that an Allocator's root refers to is fenced before the root is stored, and the
//     root is one word.
//
// discard.go states A10 to A12, and reserve.go A13.
//
// After a crash the user of a Region opens it (Open) and loads the maps of its last checkpoint
// (LoadMaps). If their digest is not that of the checkpoint, it calls ForgetMaps and uses its index
// instead. It reads the slabs whose marks say that they were written since (Marked), claims the
// records in them that count (Claim, SetLive), and starts to allocate (Ready).
//
// # Where slots come from
//
// A class fills one slab at a time, its slots in address order. That is sequential on every medium,
// and a recovery reads few slabs. The next slab is the emptiest of the class, if a quarter of it is
// free. Else it is a free slab, found by a next-fit search, which spreads wear. Else the device
// grows, by 4 % of its size. Else it is any slab of the class with room. From 8 MiB on, slabs of
// index pages and blocks gather in stretches of 2 MiB, so that the DRAM mirror can use huge pages
// for them.
//
// A device that cannot grow answers [ErrFull] while some pages, blocks and slabs are left. They are
// for urgent callers, which give space back (A13).
//
// # Concurrency
//
// A Region is not safe for concurrent use: kv calls it under the writer's turn. Describe, RecordAt
// and RecordSlab may be called at any time. WriteMaps and WriteSuper may run concurrently with all
// methods except each other and themselves.
package alloc
