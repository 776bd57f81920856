package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A full store deletes at least fullDeletes keys of keepKeyBytes in one transaction, or fewer
// longer ones.
const (
	fullDeletes  = 100
	keepKeyBytes = 1000
)

// needed is the state for which noteNeed last told the allocator.
type needed struct {
	height, leaves int
	long           bool
}

// noteNeed tells the allocator how much room to keep for deletes, if that has grown: the need of a
// range, and of fullDeletes keys that lie as far apart as they can. The caller holds the turn.
func (db *DB) noteNeed() {
	at, ix := &db.needed, &db.ix
	if ix.Height() == at.height && ix.HasLong() == at.long && (ix.Leaves() <= at.leaves || at.leaves >= fullDeletes) {
		return
	}
	// It never shrinks: a full store could not provide the difference later.
	*at = needed{ix.Height(), ix.Leaves(), ix.HasLong()}
	leaves := min(at.leaves, fullDeletes)
	cut := ix.NeedOfCut()
	n := alloc.Need{
		Pages:  max(cut.Pages, leaves+leaves/4+2*ix.Height()), // with inner pages
		Blocks: max(cut.Blocks, leaves),

		RecordBytes: fullDeletes * (record.MaxHeaderBytes + keepKeyBytes),
	}
	if at.long { // a range has two keys
		n.RunPages = 2 * (MaxKeyBytes + nvmap.PageBytes - 1) / nvmap.PageBytes
	}
	db.r.SetNeed(n)
}
