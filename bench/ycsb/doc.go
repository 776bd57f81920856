// Package ycsb generates the operations of the Yahoo! Cloud Serving Benchmark: its property files
// and names, its six core workloads, its key choosers.
//
// # Limits
//
// It drives nothing and times nothing. It turns a [Workload] into [Stream]s of operations before
// any clock starts, so that choosing a key (a power per zipfian draw) and formatting it are never
// in a timed path. The driver is package bench.
//
// # Terms
//
// A record has a number, from 0. [Workload.AppendKey] turns the number into a key, scattered over
// the key space unless insertorder=ordered. A value holds fieldcount fields, each fieldlength
// bytes, one after another.
//
// # Values that can be verified
//
// Each field has the number of its record and the [Version] of the write that made it. The rest of
// the field follows from those two. So any read can be checked by itself. A stream knows the last
// writes of its own thread, and so the version that a read has to return.
//
// # Determinism
//
// A workload, a seed and a number of threads give the same streams on every machine and in every
// process. So a verifier in another process regenerates the writes.
package ycsb
