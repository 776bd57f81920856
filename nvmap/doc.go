// Package nvmap gives a program byte-addressable non-volatile memory as pages
// and records: what is on the medium is read in place, what changes often is
// changed in DRAM, and what must last goes through one narrow seam.
//
// It knows nothing of keys or allocation and is of use without them.
//
// # Terminology
//
//   - device: where bytes persist, behind the interface [Device]
//   - page: 4 KiB of it, numbered by [PageID]
//   - view: bytes of a device read in place, through its read-only mapping
//   - mirror: DRAM with an address for every byte of the device
//   - frame: the copy of a page in the mirror; clean if the device has the same
//     bytes, else dirty
//   - state word: 64 bits per page that say where its newest bytes are, and which
//     version of them
//   - written: handed to the device; fenced: durable
//   - mover: the instructions that carry bytes to memory
//
// # Devices
//
// [OpenDevice] detects the kind from the path, or takes the one it is told;
// [NewMem] and [NewSim] make the others.
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
// How a kind is detected, and what becomes of its contents without power:
//
//	mem     asked for                          gone with the process
//	shm     statfs says tmpfs or hugetlbfs     gone
//	dax     MAP_SYNC is accepted               kept, where the kernel knows of a domain
//	devdax  character device of DAX            kept, as dax
//	pcie    resourceN or resourceN_wc, sysfs   counts as gone: nobody says
//	file    what is left                       kept
//	block   block device; asked for on files   kept
//
// In place means that the device has a mapping. The others, whose Mapping is nil,
// are read through copies: pcie because each load waits for the bus, block because
// it moves pages, of which many at a time are faster ([BatchReader]). The durability
// domain of dax and devdax is what the kernel says of the region of non-volatile
// memory beneath: memory that was set aside at boot to emulate it, or of which it
// knows nothing, counts as volatile.
//
// [Info] says of each what it promises, in words that a user can be shown.
//
// # Writing
//
// Write, then Fence, is the whole persistence model:
//
//   - W1. After a Fence that began after a Write returned has returned nil, the
//     bytes of that Write stay.
//   - W2. Until then any of them may be on the medium or not, in any order; only
//     an aligned 8-byte word is never divided.
//   - W3. Bytes beside a write are never changed by it.
//   - W4. Growth is durable when Grow returns, and so are the file and its name.
//     Blocks come first, then the size, then the mapping: a full medium is
//     [ErrFull] from Grow, and never a fault later.
//   - W5. After a failed Write or Fence nobody knows what is durable, and fencing
//     again does not repair it. Whoever goes on reads back or writes again.
//   - W6. A block device keeps a page in DRAM until the disk has it, and does not
//     change one that is on its way: who writes to it meanwhile changes a copy,
//     which travels after the first has arrived.
//
// On a file a write shows in the mapping no later than the next fence returns;
// on all other devices that have one, at once. Read shows every write that has
// returned, on all of them.
//
// # Reading
//
// The mapping is read-only to the whole program: a stray store faults. The store
// routine of shm, dax and devdax has a second mapping of the same pages for itself, and where CPU
// and kernel have memory protection keys, that one is closed to every thread but
// the one that is in the routine: see [Protection]. Frames are DRAM and meant to
// be written; nothing protects them.
//
// A page is read under its version: [Map.ReadBegin], read [Map.Page],
// [Map.ReadValid]. Readers take no lock, write nothing and never wait for an
// eviction or for growth. The invariants they rest on:
//
//   - M1. No address changes while a map is open, and none is reused for another
//     store while somebody can still reach the map.
//   - M2. Versions only grow. State words are never reset, not even when the page
//     is discarded and used anew: an old version would validate by accident.
//   - M3. The frame bit is set after the frame is complete, and cleared before its
//     memory is given back.
//   - M4. Whatever changes bytes under a reader changes the version before it
//     starts (BeginChange, Drop, FreshFrame). Moving a page between device and
//     frame changes no byte, and the version only when memory goes.
//   - M5. A dirty frame is never given back. It becomes clean only when somebody
//     who fenced its bytes says so.
//
// # Memory
//
// Reserved are, for a device that can grow to n bytes: n for each of its
// mappings, n for the mirror and n/512 for the state words, all once, at opening.
// Of this only addresses exist until something is used: a map of 1 TiB is open at
// a cost of a few pages. Frames are committed when first touched and given back
// in runs by [Map.Drop], and by a policy where MapOptions.CacheBytes bounds them.
// Where the system refuses an address range, half of it is asked for; what was
// granted is Info.MaxBytes.
//
// Closing replaces mappings by addresses that fault. They return to the system
// when the garbage collector finds that device and map are unreachable.
//
// A memory fault in a mapping, from a failing medium or a file that was truncated
// behind us, is a [FaultError] from Read, Write and Frame. Who reads views and
// pages directly calls runtime/debug.SetPanicOnFault and gives what it recovers
// to [Map.Faulted].
//
// # Crash tests
//
// Everything that lasts passes through Write and Fence, so [Sim] can rebuild what
// a power failure may leave at any instant: see [Sim.Images]. It also plays a
// medium that is slower than the one beneath ([Sim.SetTiming]), counts how its
// blocks wear ([Sim.Wear]), fails by rule ([Sim.FailIf]), loses lines
// ([Sim.LoseLines]) and can be one that the CPU cannot map ([Sim.HideMapping]).
//
// # Where it stands
//
// The package follows what a kernel module for memory-mapped storage (hmmap) and
// the debate about page caches for non-volatile memory found worth having:
//
//   - N1. Pluggable devices: [Device], detected or named.
//   - N2. Pluggable caching: a [Policy] chooses the frames that go, several are
//     here, and hits, misses, evictions and write-backs are counted.
//   - N3. Direct access: a clean page is read in the device's mapping, with no
//     copy and no second buffer.
//   - N4. Write protection: that mapping is read-only, the first write moves a
//     page to a frame, and stores have a mapping of their own behind a key.
//   - N5. Asymmetry and endurance: frames absorb writes, records are written once,
//     and calls, bytes and lines are counted; a [Sim] counts wear block by block,
//     behind a write buffer as such media have ([Sim.SetWearBuffer]).
//   - N6. Hardware movers: chosen by the CPU's features, and by name for
//     measurements.
//   - N7. Devices that the CPU cannot map, or only badly: pcie and block have no
//     mapping. A block device moves whole pages, many at once, also before they
//     are asked for ([Map.ReadAhead]); a PCI window is read in whole lines.
//   - N8. No atomics in device memory: aligned 8-byte stores are all that is
//     relied upon.
//   - N9. Page metadata off the device and lazy: state words in anonymous memory.
//   - N10. A block may be freed while its page is in use: versions tell readers;
//     when to reuse is for the allocator above.
//   - N11. Usable alone: nothing here knows who calls.
//   - N12. Modes: cached, direct, direct with protection, switched while a map
//     is in use, and an injected delay ([Map.SetMode], [Map.SetDelay]).
//
// # Turned down
//
// A page-fault handler that moves pages (userfaultfd, SIGSEGV): a fault blocks a
// thread while it holds its P, and a handler goroutine then waits for the
// collector, which waits for the thread. Atomics and locks in device memory: not
// every medium has them. Pointers on the medium: offsets only, and 0 is nil.
package nvmap
