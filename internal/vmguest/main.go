// Command vmguest runs on a store inside the virtual machine of scripts/vmtest. It examines the
// store after the last power failure, continues to write, and reports on standard output what is
// durable.
//
//	vmguest -name dax -store /mnt/dax/store -kind dax -acked 0
//
// With -blank it instead prepares a device without a file system for a new store, whatever it
// holds.
//
// Its lines are
//
//	ack NAME N;               operations 0 to N are durable
//	@@ PASS NAME-recovered …  every acknowledged operation was there, Check is clean
//	@@ PASS NAME-closed …     the same after a Close, if -operations ends the run
//	@@ FAIL NAME …
//
// The semicolon distinguishes a whole number from one that the power failure cut.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	var g guest
	flag.StringVar(&g.name, "name", "", "what the lines call the store; also chooses the operations")
	flag.StringVar(&g.path, "store", "", "path of the store")
	flag.StringVar(&g.kind, "kind", "", "what the device must turn out to be")
	flag.IntVar(&g.acked, "acked", 0, "operations that were acknowledged before")
	flag.IntVar(&g.operations, "operations", 0, "close the store after so many; 0: write until killed")
	flag.DurationVar(&g.pause, "pause", 0, "between two operations, so that a fast store leaves time to the others")
	wipe := flag.Bool("blank", false, "only write zeros where a store begins and ends")
	flag.Parse()
	if g.name == "" || g.path == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	g.out = os.Stdout
	do := g.run
	if *wipe {
		do = g.blank
	}
	if err := do(); err != nil {
		fmt.Printf("@@ FAIL %s %v\n", g.name, err)
		os.Exit(1)
	}
}
