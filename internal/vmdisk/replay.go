package main

import (
	"fmt"
	"io"
)

// outcome counts what a replay did.
type outcome struct {
	writes, flushes  int
	unflushed, kept  int // sectors after the last flush, and those of them that stayed
	unflushedEntries int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d writes and %d flushes; %d writes came after the last flush: %d of their %d sectors stay",
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
