package kv

import (
	"testing"

	"nvkv/nvmap"
)

// Trace 18: nothing is read in place, and the disk takes whole pages. The records of one
// transaction, on two pages, are being written. A record of the next transaction is copied into one
// of these pages and travels with it, and the other page is lost. So the higher number is complete
// and the lower one is not. "Written" therefore means: given to anything that may take it to the
// medium.
func TestTrace18_WrittenMeansWithinReachOfAWriteBack(t *testing.T) {
	skipInRace(t)
	told := func(off rules) error {
		c := newCrasher(1)
		c.images = []int{traceImages}
		c.opt.broken = off
		c.unmapped, c.model = true, nvmap.Pages
		s, err := c.start()
		if err == nil {
			err = guarded(func() error { return traceI2_OneTransactionAtATime(s) })
		}
		return firstErr(err, s.end())
	}
	if err := told(0); err != nil {
		t.Errorf("with all rules: %v", err)
	}
	if !switches(t) {
		return
	}
	noticed(t, told(ruleI2))
}

// Trace 18 in a store: records are written through. No page of records is ever dirty in DRAM, where
// an eviction could write it at any time.
func TestTrace18_RecordsAreWrittenThrough(t *testing.T) {
	db := cacheDB(t, unmappedDevice{Device: nvmap.NewMem(64 << 20)}, Options{SlabBytes: 4096})
	for i := range 300 {
		must(t, commitChanges(db, []change{put(string(rune('a'+i%20)), "value"), put(wide("w"), "value"), put("runs", elsewhere)}, false))
		for _, s := range db.r.Marked(0) { // slabs of records and of runs
			for page := s.Off.Page(); page.Off() < s.Off+nvmap.Off(s.Slots*s.SlotBytes); page++ {
				if parts := db.m.DirtyParts(page); parts != 0 {
					t.Fatalf("commit %d left page %d of records dirty: %b", i, page, parts)
				}
			}
		}
	}
}
