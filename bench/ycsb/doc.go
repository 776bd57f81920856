// Package ycsb generates the work of the Yahoo! Cloud Serving Benchmark: its
// property files and names, its six core workloads, its key choosers.
//
// # What it does not do
//
// It drives nothing and times nothing. A [Workload] is turned into [Stream]s
// of operations before any clock starts, so that choosing a key (a power per
// zipfian draw) and formatting it never lie in a timed path. The driver lives
// in package bench.
//
// # Words
//
// A record has a number, from 0. [Workload.AppendKey] turns the number into a
// key, scattered over the key space unless insertorder=ordered. A value holds
// fieldcount fields, each fieldlength bytes, one after another.
//
// # Values that prove themselves
//
// Each field names the record it belongs to and the write that made it (its
// [Version]); the rest of it follows from those two. So any read can be
// checked by itself, and a stream, which knows what its own thread wrote
// last, can say which version a read has to return.
//
// # Determinism
//
// A workload, a seed and a number of threads give the same streams on every
// machine and in every process: a verifier in another process regenerates
// what was written instead of being told.
package ycsb
