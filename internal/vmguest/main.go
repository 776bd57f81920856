// Command vmguest is what scripts/vmtest runs on a store inside its virtual
// machine: it looks at what the last power cut left, goes on writing, and says
// on standard output what is durable.
//
//	vmguest -name dax -store /mnt/dax/store -kind dax -acked 0
//
// With -blank it makes a device without a file system ready for a new store
// instead, whatever lies there.
//
// Its lines are
//
//	ack NAME N;               operations 0 to N are durable
//	@@ PASS NAME-recovered …  every acknowledged operation was there, Check is clean
//	@@ PASS NAME-closed …     the same after a Close, where -operations ends the run
//	@@ FAIL NAME …
//
// The semicolon tells a whole number from one that the cut went through.
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
