// Command nvkv works with nvkv stores. It puts, gets, scans, loads, dumps and checks records,
// describes the device of a store and its promises, and demonstrates what the engine does when a
// process is killed.
//
//	nvkv demo
//	nvkv put store.nv colour blue
//	nvkv get store.nv colour
//
// It exits with 0 for success, 1 for a failure, 2 for wrong usage, 3 if a key is not there, and 4
// if records were left out as requested. It writes the reason to standard error, in one line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends a command in good order, the second at once.
	context.AfterFunc(ctx, stop)
	// With a handler, a broken pipe is an error of the write, so that the store is closed as usual.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, standardError()))
}
