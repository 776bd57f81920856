package main

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// cut describes the power failure.
type cut struct {
	from int64   // least length of the log at the failure
	keep float64 // share of the unflushed sectors that are kept
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

// keeps reports whether the next sector is kept.
func (c cut) keeps() bool { return c.rng.Float64() < c.keep }

// outcome counts the events of a replay.
type outcome struct {
	writes, flushes  int
	unflushed, kept  int // sectors after the last flush, and the kept ones of them
	unflushedEntries int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d writes and %d flushes reach it; %d of the writes came after the last flush: %d of their %d sectors stay",
		o.writes, o.flushes, o.unflushedEntries, o.kept, o.unflushed)
}

// replay writes to image the data that a flush, or its own flag, made durable. Of the rest it
// writes the sectors for which keep returns true. It follows the order of the log.
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

// lastFlush returns the index of the last flush, or 0 if there is none.
func lastFlush(entries []entry) int {
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].flags&flagFlush != 0 {
			return i
		}
	}
	return 0
}
