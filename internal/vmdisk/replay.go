package main

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// cut is when the power fails, and what stays then.
type cut struct {
	from int64   // not before the log had so many bytes
	keep float64 // share of the sectors that stay without a flush
	rng  *rand.Rand
}

// head returns the entries up to the cut.
func (c cut) head(entries []entry) []entry {
	first := 0
	for first < len(entries) && entries[first].end() <= c.from {
		first++
	}
	return entries[:first+c.rng.IntN(len(entries)-first+1)]
}

// keeps says whether the next sector stays.
func (c cut) keeps() bool { return c.rng.Float64() < c.keep }

// outcome counts what a replay did.
type outcome struct {
	writes, flushes  int
	unflushed, kept  int // sectors after the last flush, and those of them that stayed
	unflushedEntries int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d writes and %d flushes reach it; %d of the writes came after the last flush: %d of their %d sectors stay",
		o.writes, o.flushes, o.unflushedEntries, o.kept, o.unflushed)
}

// replay writes to image what a flush, or its own flag, made durable, and of
// the rest the sectors that keep returns true for, in the order of the log.
func replay(log io.ReaderAt, image io.WriterAt, entries []entry, keep func() bool) (outcome, error) {
	var o outcome
	last := lastFlush(entries)
	for i, e := range entries {
		if e.flags&flagFlush != 0 {
			o.flushes++
		}
		if e.n == 0 {
			continue
		}
		o.writes++
		data := make([]byte, e.n)
		if _, err := log.ReadAt(data, e.data); err != nil {
			return o, err
		}
		if i < last || e.flags&flagFUA != 0 {
			if _, err := image.WriteAt(data, e.off); err != nil {
				return o, err
			}
			continue
		}
		o.unflushedEntries++
		for at := int64(0); at < e.n; at += e.unit {
			o.unflushed++
			if !keep() {
				continue
			}
			o.kept++
			if _, err := image.WriteAt(data[at:at+e.unit], e.off+at); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// lastFlush returns the index of the last flush, or 0: nothing comes before it.
func lastFlush(entries []entry) int {
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].flags&flagFlush != 0 {
			return i
		}
	}
	return 0
}
