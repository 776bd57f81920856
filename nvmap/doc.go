// Package nvmap gives a program byte-addressable non-volatile memory as pages and records. Bytes on
// the medium are read in place. Bytes that change often are changed in DRAM. Bytes that must last
// are written through one narrow interface, [Device].
//
// The package knows nothing of keys or allocation and can be used without them.
//
// # Terminology
//
//   - device: the place where bytes persist, behind the interface [Device]
//   - page: 4 KiB of a device, numbered by [PageID]
//   - view: bytes of a device read in place, through its read-only mapping
//   - mirror: DRAM with an address for every byte of the device
//   - frame: the copy of a page in the mirror; clean if the device has the same bytes, else dirty
//   - state word: 64 bits per page that say where the newest bytes of the page are, and count its
//     versions
//   - written: handed to the device; fenced: durable
//   - mover: the instructions that carry bytes to memory
//   - owner: the code that made a [Map] and changes its pages
//
// # Devices
//
// [OpenDevice] detects the kind from the path, or opens the kind that it is given. [NewMem] and
// [NewSim] make the two kinds without a path.
//
//	kind    for                       read           write               fence               size
//	mem     tests, scratch stores     in place       copy                nothing             grows
//	shm     tmpfs, hugetlbfs: NVM     in place       non-temporal copy   SFENCE              grows
//	        emulated in memory                       (arm64: DC CVAP)    (arm64: DSB)
//	dax     file on a DAX file        in place       as shm              as shm              grows
//	        system
//	devdax  /dev/daxX.Y               in place       as shm              as shm              fixed
//	pcie    memory behind a PCI BAR   whole lines,   as shm, drained     SFENCE, and the     fixed
//	                                  wide loads     at once             last line read back
//	file    any other file system     in place       pwrite, coalesced   fdatasync           grows
//	block   disk or file, O_DIRECT    whole pages,   whole pages,        fdatasync           fixed;
//	                                  batched        staged, batched                         files grow
//	sim     crash tests, over any     as beneath     recorded            recorded            as beneath
//
// The next table says how a kind is detected, and whether its contents survive a power failure:
//
//	mem     asked for                          lost, also when the process ends
//	shm     statfs reports tmpfs or hugetlbfs  lost
//	dax     MAP_SYNC is accepted               kept, if the kernel reports a domain
//	devdax  character device of DAX            kept, as dax
//	pcie    resourceN or resourceN_wc, sysfs   counted as lost: nothing promises more
//	file    any other regular file             kept
//	block   block device; asked for on files   kept
//
// "In place" means that the device has a mapping. The devices whose Mapping is nil are read through
// copies. On pcie each load waits for the bus. A block device transfers whole pages, and many at a
// time are faster ([BatchReader]). The durability domain of dax and devdax is the one that the
// kernel reports for the region of non-volatile memory beneath. Memory that was set aside at boot
// to emulate NVM, or that the kernel does not know, counts as volatile.
//
// [Info] describes the promises of a device in words that a user can be shown.
//
// # Writing
//
// The persistence model is Write, then Fence:
//
//   - W1. A Write is durable when a Fence that was called after the Write had returned has itself
//     returned nil, whichever goroutines called the two.
//   - W2. Until then any of them may be on the medium or not, in any order. Only an aligned 8-byte
//     word is never divided.
//   - W3. A write never changes bytes beside its range.
//   - W4. Growth is durable when Grow returns, and so are the file and its name. Blocks come first,
//     then the size, then the mapping: a full medium gives [ErrFull] from Grow, and never a fault
//     later.
//   - W5. After a failed Write or Fence it is unknown which bytes are durable, and a second fence
//     does not repair that. A caller that goes on reads back or writes again.
//   - W6. A block device keeps a page in DRAM until the disk has it, and does not change a page
//     that is on its way to the disk. A write to such a page changes a copy, which is written after
//     the first has arrived.
//
// On a file, a write is visible in the mapping when the next fence returns, or sooner. On all other
// devices with a mapping it is visible at once. On all devices, Read shows every write that has
// returned.
//
// # Reading
//
// The mapping is read-only to the whole program: a stray store faults. The store routine of shm,
// dax and devdax uses a second mapping of the same pages. Where CPU and kernel have memory
// protection keys, that mapping is closed to every thread except the one inside the routine: see
// [Protection]. Frames are DRAM and meant to be written; nothing protects them.
//
// A page is read under its version: call [Map.ReadBegin], read [Map.Page], call [Map.ReadValid].
// Readers take no lock, write nothing and never wait for an eviction or for growth. They rely on
// these invariants:
//
//   - M1. No address changes while a map is open. No address is reused for another store while the
//     map is reachable.
//   - M2. Versions only grow. State words are never reset, not even when the page is discarded and
//     used anew, because an old version could then validate by accident.
//   - M3. The frame bit is set after the frame is complete, and cleared before its memory is given
//     back.
//   - M4. Code that changes bytes under a reader changes the version first (BeginChange, Drop,
//     FreshFrame). Moving a page between device and frame changes no byte. It changes the version
//     only when memory is given back.
//   - M5. A dirty frame is never given back. It becomes clean only when the code that fenced its
//     bytes says so.
//
// # Memory
//
// For a device that can grow to n bytes, opening reserves n bytes of address space for each of its
// mappings, n for the mirror and n/512 for the state words. Memory is committed only when it is
// touched: an open map of 1 TiB costs a few pages. Frames are committed on first use and given back
// in runs, by [Map.Drop], and by a policy where MapOptions.CacheBytes bounds them. Where the system
// refuses an address range, half of it is tried. Info.MaxBytes is the size that was granted.
//
// Closing replaces mappings by addresses that fault. The addresses return to the system when the
// garbage collector finds that device and map are unreachable.
//
// A memory fault in a mapping comes from a failing medium or from a file that another process
// truncated. Read, Write and Frame return it as a [FaultError]. Code that reads views and pages
// directly calls runtime/debug.SetPanicOnFault and passes the recovered value to [Map.Faulted].
//
// # Transparent maps
//
// [OpenPaged] gives the bytes of a device as a plain slice, also of one that the CPU cannot map: a
// page is brought in when it is touched, and a bounded number of pages is present. It is for code
// that works on slices. Code that can call Load and Store uses a [Map], which costs less for each
// page that is not in DRAM.
//
// # Crash tests
//
// Everything that lasts passes through Write and Fence, so [Sim] can rebuild every state that a
// power failure may leave: see [Sim.Images]. A Sim can also imitate a slower medium
// ([Sim.SetTiming]), count the wear of its blocks ([Sim.Wear]), fail by rule ([Sim.FailIf]), lose
// lines ([Sim.LoseLines]) and hide its mapping from the CPU ([Sim.HideMapping]).
//
// # Origins
//
// The package implements ideas of a kernel module for memory-mapped storage (hmmap) and of the
// debate about page caches for non-volatile memory:
//
//   - N1. Pluggable devices: [Device], detected or named.
//   - N2. Pluggable caching: a [Policy] chooses the frames to evict. Several policies are included.
//     Hits, misses, evictions and write-backs are counted.
//   - N3. Direct access: a clean page is read in the device's mapping, with no copy and no second
//     buffer.
//   - N4. Write protection: that mapping is read-only, the first write moves a page to a frame, and
//     stores use a mapping of their own behind a key.
//   - N5. Asymmetry and endurance: frames absorb writes, records are written once, and calls, bytes
//     and lines are counted. A [Sim] counts wear per block, behind a write buffer as such media
//     have ([Sim.SetWearBuffer]).
//   - N6. Hardware movers: chosen by the features of the CPU, or by name for measurements.
//   - N7. Devices that the CPU cannot map, or reads badly through a mapping: pcie and block have
//     none. A block device transfers many whole pages at once, also ahead of their use
//     ([Map.ReadAhead]). A PCI window is read in whole lines.
//   - N8. No atomics in device memory: the package relies on aligned 8-byte stores only.
//   - N9. Page metadata off the device and lazy: state words are in anonymous memory.
//   - N10. A block may be freed while its page is in use: versions tell readers, and the allocator
//     above decides when to reuse it.
//   - N11. Usable alone: the package does not depend on its callers.
//   - N12. Modes: cached, direct, and direct with protection, switched while a map is in use, and
//     an injected delay ([Map.SetMode], [Map.SetDelay]).
//
// # Turned down
//
// A page-fault handler in the same process (userfaultfd, SIGSEGV): a fault blocks a thread while it
// holds its P, and a handler goroutine then waits for the collector, which waits for the thread.
// [OpenPaged] has its faults served by another process, and kv does not use it.
// Atomics and locks in device memory: not every medium has them. Pointers on the medium: nvmap uses
// offsets only, and 0 is nil.
package nvmap
