// Command goycsb checks this project's benchmark against another one. It lets the client of
// pingcap/go-ycsb drive the same engines through the same adapters, with the same numbers of
// records, operations and threads, and compares the results.
//
//	go run . -records 100000 -operations 100000
//
// go-ycsb generates keys and values, takes locks and allocates inside its timed loop. This cost is
// measured with an engine that does nothing and subtracted, as is the cost of this project's own
// loop. The rest is the time of the engine. Both benchmarks must rank the engines alike if these
// differ by more than the two measurements do, and the times must lie within -tolerance of each
// other. Otherwise goycsb exits with 1.
//
// It is a module of its own, so that go-ycsb and its dependencies are not dependencies of the
// project.
package main
