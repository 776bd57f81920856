// Command nvkv works with nvkv stores: it puts, gets, scans, loads, dumps and
// checks them, says what device they lie on and what that promises, and shows
// in a demonstration what the engine does when a process is killed.
//
//	nvkv demo
//	nvkv put store.nv colour blue
//	nvkv get store.nv colour
//
// It exits with 0 when it did what was asked, 1 when it failed, 2 when it was
// called wrongly, 3 when a key is not there. Why goes to standard error, in
// one line.
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
	// With a handler of its own a broken pipe is an error of the write, so that
	// the store is closed as ever.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
