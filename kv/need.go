package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// fullDeletes is how many keys a full store deletes in one transaction, at least:
// of keepKeyBytes each, or fewer longer ones.
const (
	fullDeletes  = 100
	keepKeyBytes = 1000
)

// needed is what setNeed told the allocator last.
type needed struct {
	height, leaves int
	long           bool
}

// noteNeed tells the allocator what a full store keeps for deletes, when that has
// grown: what a range takes at most, and what fullDeletes keys take that lie as far
// apart as they can. The caller holds the turn.
func (db *DB) noteNeed() {
	at, ix := &db.needed, &db.ix
	if ix.Height() == at.height && ix.HasLong() == at.long && (ix.Leaves() <= at.leaves || at.leaves >= fullDeletes) {
		return
	}
	*at = needed{ix.Height(), ix.Leaves(), ix.HasLong()} // no more: a full store could not provide it
	leaves := min(at.leaves, fullDeletes)
	cut := ix.NeedOfCut()
	n := alloc.Need{
		Pages:  max(cut.Pages, leaves+leaves/4+2*ix.Height()), // with inner pages
		Blocks: max(cut.Blocks, leaves),

		RecordBytes: fullDeletes * (record.MaxHeaderBytes + keepKeyBytes),
	}
	if at.long { // a range names two keys
		n.RunPages = 2 * (MaxKeyBytes + nvmap.PageBytes - 1) / nvmap.PageBytes
	}
	db.r.SetNeed(n)
}
