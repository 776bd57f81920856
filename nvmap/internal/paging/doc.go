// Package paging gives a program a []byte over a medium that the CPU cannot map. A page that is
// missing is a fault of the program, which another process, the pager, resolves with userfaultfd.
//
// # Processes
//
//   - program: holds the region and uses it. It makes control calls over a socket.
//   - supervisor: a child of the program. It holds the lock of the medium, starts the pager, and
//     starts another one if it dies.
//   - pager: a child of the supervisor. It serves faults, evicts, and writes back. If the supervisor
//     dies, it starts another one. If both die at once, the program starts both, as soon as it
//     runs.
//
// A handler inside the program would deadlock: a stop of the world waits for the thread in the
// fault, the fault for the handler, and the handler for the end of the stop.
//
// # Memory
//
//   - region: a memfd, mapped by the program, with a place for each byte of the medium. A page that
//     is missing there has no memory.
//   - shared: a memfd with the configuration, counters, and a state byte for each page. It outlives
//     the pager.
//
// # Invariants
//
//   - P1. The program and the supervisor hold the userfaultfd, so a pager's death turns faults into
//     waits and never into zeros.
//   - P2. A page enters the region whole: it is read into a buffer and copied by the kernel, or
//     written to the memfd by one call.
//   - P3. A page that is present, mapped and not marked dirty is write-protected. The mark is set
//     before the protection is removed. Dirty marks lie in shared memory.
//   - P4. A dirty page leaves in this order: protect, write, settle, clear the mark, punch. Settled
//     bytes outlive the pager.
//   - P5. One operation at a time works on a page (busy). An operation that holds pages never waits
//     for another page. The order is: reserve memory, then hold.
//   - P6. Each event that was read ends in a wake, also after an error.
//   - P7. After a restart SEEK_DATA says which pages are present, not the state bytes, and all
//     waiting threads are woken, which makes them fault again.
//   - P8. Pages present and pages on their way in are counted together and never exceed the bound.
//   - P9. The pager never waits for the program. Control calls have numbers, are repeated after a
//     restart, and may be done twice.
//   - P10. End of file on the control socket means that the program is gone: write back, exit.
//   - P11. A page that cannot be read is poisoned (SIGBUS), never zero. A page that cannot be
//     written stays dirty and present.
//   - P12. After a failed fence no Sync succeeds again, because it is unknown which bytes are
//     durable.
package paging

// PageBytes is the unit of faults and transfers.
const PageBytes = 4096
