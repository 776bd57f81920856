// Package alloc hands out space on a non-volatile device: slots for records,
// pages and blocks for an index, runs of pages for large values. It keeps its
// books in DRAM and writes next to nothing: what a slot holds must say by
// itself whether it counts.
//
// It stands between nvkv/nvmap, which knows bytes, and nvkv/kv, which knows
// keys, and is of use without the latter: an [Allocator] hands out pieces and
// remembers a root. [Slabs] is this package's own behind that interface, [Buddy] a
// simple other one, and examples/plist a list that lives in either. Whoever wants
// kinds of slabs, checkpoints and maps uses a [Region] as it is.
//
// # Terminology
//
//   - slab: the unit of space, 64 KiB unless the store was created otherwise
//   - slot: a piece of a slab; all slots of a slab have one size
//   - kind: what a slab is cut into: records, index pages, value blocks, or
//     pages that are handed out in runs
//   - class: the slot size of a record slab, from 32 bytes to a quarter of a slab
//   - carve: to cut a free slab into slots; the carve number counts how often
//   - group: a stretch of slabs that grows at once, 64 slabs by default, the first
//     of which holds metadata on all of them
//   - used: handed out, not to be handed out again
//   - live: reached by the user's index
//   - mark: the checkpoint interval in which a slab was last written into
//   - superblock: what an opening finds first; carries a payload of the user's
//   - generation: the number of a superblock
//
// # Layout
//
// A device is a page with two words, two generations of superblocks stored twice
// each, and groups:
//
//	| head | superblocks | group 0                                    | group 1 ...
//	                     | header, descriptors, maps | slab | slab .. |
//
// Growth appends and nothing moves. docs/format.md has every field.
//
// # Used and live
//
// Each slab has two bitmaps in DRAM. A slot is used from Alloc to Free. It is
// live from SetLive to ClearLive, which is the user saying that its index
// reaches the slot. Only the live bits go to the medium, with a checkpoint
// (FreezeMaps, WriteMaps): a slot that is used and not live is held by something
// that a crash ends, and the crash frees it.
//
// So allocating and freeing cost no write and no fence. What is written at once
// is a line of 24 bytes when a slab's first slot in a checkpoint interval is
// written into (Touch): the slab's identity and its mark, unfenced, beside the
// record that they announce.
//
// # Crash safety
//
//   - A1. The magic word says "creating" until all else is fenced. A crash while
//     creating leaves a device that counts as absent, or an empty store.
//   - A2. The second copy of a superblock is written after the first is fenced: a
//     crash spoils at most one of them.
//   - A3. A generation without a good copy is corruption, never a reason to fall
//     back to the one before: what that one names may have been reused.
//   - A4. What a slab was carved into is durable no later than the first slot in
//     it that counts, and every carving has a number of its own, which belongs
//     into the checksum of what is in the slots.
//   - A5. The headers of new groups are fenced before the size word that takes
//     them in, and that is fenced before the first slab in them is carved.
//   - A6. A map of a checkpoint that did not flip is made obsolete by the next
//     one that does.
//   - A7. What an Allocator's root leads to is fenced before the root is stored,
//     and the root is one word.
//
// After a crash the user of a Region opens it (Open), takes the maps of its last
// checkpoint (LoadMaps), reads the slabs whose marks say that they were written
// into since (Slabs), claims what of it counts (Claim, SetLive), and starts to
// allocate (Ready).
//
// # Where slots come from
//
// A class fills one slab at a time, its slots in address order: sequential on
// every medium, and a recovery reads few slabs. The next slab is the emptiest of
// the class, if a quarter of it is free; else a free slab, found by walking on
// from the last one, which spreads wear; else the device grows, by 4 % of its
// size; else whatever has room. From 8 MiB on, slabs of index pages and blocks
// gather in stretches of 2 MiB, behind which the DRAM mirror can be huge pages.
//
// A device that cannot grow answers [ErrFull] while a few free slabs are left:
// they are for callers that say urgent, because they give space back.
//
// # Concurrency
//
// A Region is not safe for concurrent use: kv calls it under the writer's turn.
// Describe may be called at any time. WriteMaps and WriteSuper may run beside
// everything but each other and themselves.
package alloc
