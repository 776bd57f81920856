// Command goycsb checks this project's benchmark against another one: it lets
// the client of pingcap/go-ycsb drive the same engines through the same
// adapters, with the same numbers of records, operations and threads, and
// compares what both say.
//
//	go run . -records 100000 -operations 100000
//
// go-ycsb generates keys and values, takes locks and allocates inside its
// timed loop. What that costs is measured with an engine that does nothing and
// taken off, as is the cost of this project's own loop; what is left is the
// time of the engine. The two have to rank the engines the same way, where
// they differ by more than the two measurements do, and their times are
// expected to lie within -tolerance of each other. It exits with 1 if not.
//
// This is a module of its own, so that go-ycsb and what it needs stay out of
// the project.
package main
