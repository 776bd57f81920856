// Package bench measures key-value engines side by side.
//
// # Meaning of the figures
//
// Operations and keys are generated before the clock starts (package ycsb). The timed loop builds
// the value, calls the engine, reads every byte of the result and reads the clock once. The cost of
// the loop itself is measured with an engine that does nothing, and is shown beside each result. A
// latency is the time between two readings of the clock. If a target rate is set, it is the time
// since the intended start of the operation.
//
// # Fairness
//
// Each repetition of each engine runs in a fresh process and a fresh directory. Engines take turns
// and repetitions are interleaved, so that changes of the machine affect all of them. Reports show
// the median and the spread. Writes are durable when they return. A phase that wrote is followed by
// a flush outside the clock, whose bytes count for that phase, so no work is left to a later phase.
//
// # Verification
//
// After the clock has stopped, a sample of the reads is compared with the writes, including the
// version that the reading thread must see. A missing key, a wrong byte or an error of an engine
// ends the benchmark. So an engine that is fast and wrong gets no figure.
//
// # Structure
//
//	phase     streams against an engine, one goroutine each: the timed loop
//	session   the steps of one process: open, load, phases, close
//	Job       the instructions of a session, as JSON on its standard input
//	Runner    starts sessions in turn and gathers medians into a Report
package bench
