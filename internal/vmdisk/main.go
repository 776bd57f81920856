// Command vmdisk simulates the power failure of a disk with a volatile cache. It takes an image of
// the disk and a log of later writes, and makes a state that such a disk may hold afterwards: every
// sector that a flush covered, and a random selection of the other sectors, each of them whole.
// scripts/vmtest uses it between two boots.
//
//	vmdisk -log LOG -from 123392 -keep 0.5 -seed 1 IMAGE
//
// The power fails at a random place of the log, and later entries have no effect. -from is the
// length of the log at the last acknowledgement seen; the power does not fail before it.
//
// The log has the format of QEMU's blklogwrites and the kernel's dm-log-writes. vmdisk exits with 3
// if the log lacks entries that it counts, as a log may that was itself cut.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
)

func main() {
	log := flag.String("log", "", "log of the writes")
	from := flag.Int64("from", 0, "bytes of the log that were written before the power may fail")
	keep := flag.Float64("keep", 0.5, "share of the sectors that stay without a flush, 0 to 1")
	seed := flag.Uint64("seed", 1, "chooses which")
	flag.Parse()
	c := cut{from: *from, keep: *keep, rng: rand.New(rand.NewPCG(*seed, 0))}
	if *log == "" || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	switch err := run(*log, flag.Arg(0), c); {
	case errors.Is(err, errHole):
		fmt.Fprintln(os.Stderr, "vmdisk:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vmdisk:", err)
		os.Exit(1)
	}
}

func run(logPath, imagePath string, c cut) error {
	log, err := os.Open(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	image, err := os.OpenFile(imagePath, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	entries, err := readLog(log)
	if err != nil {
		return fmt.Errorf("%s: %w", logPath, err)
	}
	done, err := replay(log, image, c.head(entries), c.keeps)
	if err != nil {
		return fmt.Errorf("%s: %w", imagePath, err)
	}
	fmt.Printf("of %d entries in its log %v\n", len(entries), done)
	return image.Close()
}
