// Package bench measures key-value engines side by side.
//
// # What a figure means
//
// Operations, keys and the choice of both are generated before the clock
// starts (package ycsb). The timed loop builds the value, calls the engine,
// reads every byte of what comes back and takes one reading of the clock; what
// the loop alone costs is measured with an engine that does nothing and stands
// beside each result. Latency is the distance between two readings, or, where
// a target rate is set, the distance from the operation's intended start.
//
// # What makes it fair
//
// Each repetition of each engine runs in a fresh process and a fresh
// directory; engines take turns, repetitions are interleaved, so that a change
// in the machine's mood meets all of them; the median counts and the spread is
// shown. Writes are durable when they return. A phase that wrote is followed
// by a flush outside the clock, whose bytes count as that phase's: nothing is
// left for a later phase, or nobody, to pay.
//
// # What makes it trustworthy
//
// A sample of the reads is compared with what was written, after the clock
// has stopped, down to the version that the reading thread must see. A
// missing key, a wrong byte or an error of an engine ends the benchmark; a
// fast wrong engine gets no figure.
//
// # Structure
//
//	phase     streams against an engine, one goroutine each: the timed loop
//	session   the steps of one process: open, load, phases, close
//	Job       what a session is told, as JSON on its standard input
//	Runner    starts sessions in turn and gathers medians into a Report
package bench
