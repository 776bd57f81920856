// Package crashtest searches for crashes that a persistent structure does not survive.
//
// It runs a structure that keeps its bytes through [nvmap.Device] on a simulated medium. At every
// fence, and between fences, it builds states that a power failure or the end of the process could
// leave at that moment. The structure recovers from each state, and the test checks that its
// contents are legal. Then the package uses recovered structures further and crashes them again,
// and it crashes recoveries.
//
// # Use
//
// A test describes the structure as a [Session]: how to do the next operation, how to recover, and
// which contents are then legal. [Run] does the rest. The example below is a complete test of a
// small structure, with a bug that the test finds.
//
// # States after a crash
//
// The model is that of [nvmap.Sim]. A 64-byte line is clean, dirty (stored), flushed, or clean
// again after a fence. A line that is not clean may be lost, kept in any version since the last
// fence, or torn between 8-byte words, independently of other lines. Device.Write stores and
// flushes. A structure that stores and flushes separately uses Sim.Store and Sim.Flush. For disks,
// [nvmap.Sectors] and [nvmap.Pages] keep or lose 512 or 4,096 bytes at once.
//
// When a process dies and the machine stays up, the bytes that the process stored are visible and
// not durable, and no fence of the next process covers them. So recovery has to write again the
// bytes that it relies on.
//
// # Crash points and images
//
// Crash points are every fence, a share of the writes (all of them on request), and each call of
// [Medium.Crash]. Growth, clean closing and recovery consist of the same calls, so they are
// included. The images at a crash point are: nothing pending kept; everything kept; each line
// alone; all but each line; the state after each write; all but the state before it; the process
// killed after each write; all subsets of up to 12 lines; and random mixtures with torn words. If
// these are more than [Options] allows, a random sample is used. Equal seeds give equal runs, and
// each failure names its seed.
//
// # Chains
//
// One image in [Options].Chain is recovered, used, and crashed again, three deep unless Options
// says otherwise. In another one in Chain the recovery itself is crashed, and in some of those the
// recovery from that crash. Each recovery must respect the decisions of the one before.
//
// # Testing the test
//
// A suite that passes proves little until it has been seen to fail. [Mutate] runs the suite to find
// all places in the code from which the structure writes or fences. Then it runs the suite again
// for each of them with that call disabled. If the suite still passes, it has a gap, or the call is
// not needed.
//
// # Noise
//
// With [Options].Poison, words that were in flight at a crash may hold anything. A structure that
// passes does not depend on them, for instance because it verifies a checksum before it uses them.
package crashtest
