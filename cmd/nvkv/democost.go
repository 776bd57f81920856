package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"nvkv/kv"
)

// demoCost is the cost of the demonstration: of this process's transactions and gets.
type demoCost struct {
	keys                  int64
	transactions, records uint64
	userBytes, mediaBytes uint64
	checkpointBytes       uint64
	fences                uint64
	gets, scanned         uint64

	putTime, getTime, scanTime time.Duration // total times
}

// count adds the engine's counts since before, and then takes a checkpoint, because only a
// checkpoint writes the index to the medium.
func (c *demoCost) count(ctx context.Context, db *kv.DB, before kv.Metrics) error {
	m := db.Metrics()
	c.records = m.Puts - before.Puts
	c.fences = m.Fences - before.Fences
	c.userBytes = m.UserBytes - before.UserBytes
	c.mediaBytes = m.MediaBytes - before.MediaBytes
	if err := db.Checkpoint(ctx); err != nil {
		return err
	}
	c.checkpointBytes = db.Metrics().MediaBytes - m.MediaBytes
	return nil
}

func (c *demoCost) print(t io.Writer) {
	fmt.Fprintf(t, "put\t%s\ta transaction of %.1f records, durable when it returns (%s)\n",
		each(c.putTime, c.transactions), ratio(c.records, c.transactions), count(c.transactions))
	fmt.Fprintf(t, "get\t%s\ta record, in random order (%s)\n", each(c.getTime, c.gets), count(c.gets))
	fmt.Fprintf(t, "scan\t%s\ta record, in order (%s)\n", each(c.scanTime, c.scanned), count(c.scanned))
	fmt.Fprintf(t, "fences\t%.2f\ta transaction\n", ratio(c.fences, c.transactions))
	fmt.Fprintf(t, "medium\t%.2f\tbytes written to it for a byte of keys and values\n", ratio(c.mediaBytes, c.userBytes))
	fmt.Fprintf(t, "index\t%s\twritten by a checkpoint: one on closing, one for every %s put\n",
		size(c.checkpointBytes), size(int64(kv.DefaultCheckpointBytes)))
}

// each returns the time of one of n as text.
func each(total time.Duration, n uint64) string {
	return span(total / time.Duration(max(n, 1)))
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
