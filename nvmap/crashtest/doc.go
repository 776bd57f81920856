// Package crashtest looks for crashes that a persistent structure does not
// survive.
//
// A structure that keeps its bytes through [nvmap.Device] is run on a simulated
// medium. At every fence, and between, the package builds states that a power
// failure or the end of the process could leave at that moment, has the
// structure recover from each, and asks whether what it then holds is legal. It
// goes on from there: it uses what was recovered and crashes it again, and it
// crashes recoveries.
//
// # Use
//
// A test describes the structure as a [Session]: how to do the next operation,
// how to recover, and what must be true then. [Run] does the rest. The example
// below is a whole test of a small structure, with a bug in it that is found.
//
// # What a crash leaves
//
// The model is that of [nvmap.Sim]. A 64-byte line is clean, dirty (stored),
// flushed, or clean again behind a fence; whatever is not clean may be lost, kept
// in any version it has had since the last fence, or torn between 8-byte words,
// each line for itself. Device.Write stores and flushes; a structure that does so
// by itself uses Sim.Store and Sim.Flush. For disks, [nvmap.Sectors] and
// [nvmap.Pages] keep or lose 512 or 4,096 bytes at once.
//
// A process that dies leaves a machine that lives: what it stored is visible and
// none of it durable, and no fence of the next process covers it. So recovery
// has to write again what it relies on.
//
// # Crash points and images
//
// Crash points are every fence, a share of the writes (all of them on request)
// and wherever [Medium.Crash] is called: that includes growth, clean closing and
// recovery, which are made of the same calls. The images at a crash point are:
// nothing of what is pending, all of it, each line alone, all but each line, the
// state after each write and all but the state before it, the process killed
// after each write, all subsets of up to 12 lines, and random mixtures with torn
// words. Where that is more than [Options] allows it is a random sample. Equal
// seeds give equal runs, and each failure names its seed.
//
// # Chains
//
// One image in [Options].Chain is not only recovered but used, and crashed
// again, three deep unless Options says otherwise; in another one in so many the
// recovery itself is crashed, and in some of those the recovery from that. What
// one recovery decided is what the next one is held to.
//
// # Does the test notice
//
// A suite that passes proves little until it is seen to fail. [Mutate] finds all
// places in the code from which the structure writes or fences, by running the
// suite, and then runs it again for each of them with that call disabled. A place
// whose loss goes unnoticed is a hole in the suite, or a call that is not needed.
//
// # Noise
//
// With [Options].Poison, words that were in flight at a crash may hold anything.
// A structure that passes does not depend on them, for instance because each
// thing it believes has a checksum.
package crashtest
