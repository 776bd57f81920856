package btree

import (
	"errors"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Reserve makes sure that pages and blocks can be taken without an error:
// nothing may fail once the first record of a commit is stored. It takes nothing
// when it fails. Urgent callers borrow of what is kept for them where there is no
// other, and call KeepStock afterwards.
func (ix *Index) Reserve(pages, blocks int, urgent bool) error {
	err := ix.reserveFrom(pages, blocks, false)
	if urgent && errors.Is(err, nvmap.ErrFull) {
		if err = ix.reserveFrom(pages, blocks, true); err == nil {
			ix.borrowed = true
		}
	}
	return err
}

func (ix *Index) reserveFrom(pages, blocks int, kept bool) error {
	had := ix.Reserved()
	for len(ix.pages) < pages {
		p, err := ix.r.AllocPage(kept)
		if err != nil {
			ix.KeepReserved(had)
			return err
		}
		ix.pages = append(ix.pages, p)
	}
	for len(ix.blocks) < blocks {
		b, err := ix.r.AllocBlock(kept)
		if err != nil {
			ix.KeepReserved(had)
			return err
		}
		ix.blocks = append(ix.blocks, b)
	}
	return nil
}

// Stock is how many pages and blocks are reserved.
type Stock struct{ Pages, Blocks int }

// Frames is how many frames they take at most.
func (n Stock) Frames() int { return n.Pages + n.Blocks }

// Covers says whether s is enough for n.
func (n Stock) Covers(m Stock) bool { return m.Pages <= n.Pages && m.Blocks <= n.Blocks }

// Add adds m to n.
func (n *Stock) Add(m Stock) { n.Pages, n.Blocks = n.Pages+m.Pages, n.Blocks+m.Blocks }

// StockMost is what a commit leaves reserved for the next one: a few times what
// one of a single record asks for. keepStock gives back what is above twice that.
var StockMost = Stock{Pages: 32, Blocks: 16}

func (ix *Index) Reserved() Stock { return Stock{len(ix.pages), len(ix.blocks)} }

// KeepReserved gives back what is reserved beyond n: nothing was written there.
func (ix *Index) KeepReserved(n Stock) {
	for len(ix.pages) > n.Pages {
		last := len(ix.pages) - 1
		ix.account(ix.r.Return(ix.pages[last].Off()))
		ix.pages = ix.pages[:last]
	}
	for len(ix.blocks) > n.Blocks {
		last := len(ix.blocks) - 1
		ix.account(ix.r.Return(ix.blocks[last]))
		ix.blocks = ix.blocks[:last]
	}
}

// KeepStock gives back what a large commit reserved and did not need, and all of it
// where some is borrowed: what is kept for deletes may not come to a put by way of the
// stock (A13).
func (ix *Index) KeepStock() {
	if ix.borrowed {
		ix.borrowed = false
		ix.KeepReserved(Stock{})
		return
	}
	if len(ix.pages) > 2*StockMost.Pages || len(ix.blocks) > 2*StockMost.Blocks {
		ix.KeepReserved(StockMost)
	}
}

// BeyondReserve returns how many pages and blocks were taken though none was reserved,
// since it was called last.
func (ix *Index) BeyondReserve() (n int) {
	n, ix.beyond = ix.beyond, 0
	return n
}

func (ix *Index) takePage() (nvmap.PageID, error) {
	ix.step()
	if len(ix.pages) == 0 {
		ix.beyond++
		if err := ix.Reserve(1, 0, true); err != nil {
			return 0, err
		}
	}
	last := len(ix.pages) - 1
	p := ix.pages[last]
	ix.pages = ix.pages[:last]
	return p, nil
}

// bornPage makes a new, empty page that nobody sees yet.
func (ix *Index) bornPage(level int, prefix []byte) (nvmap.PageID, *Page, error) {
	id, err := ix.takePage()
	if err != nil {
		return 0, nil, err
	}
	pg, err := ix.m.FreshFrame(id)
	if err != nil {
		return 0, nil, err
	}
	if err := ix.r.SetLive(id.Off()); err != nil {
		return 0, nil, err
	}
	initPage(pg, id, level, ix.epoch, prefix)
	ix.m.SetVerified(id)
	ix.checks.born(id)
	return id, pg, nil
}

// bornVals makes a new value block that nobody sees yet.
func (ix *Index) bornVals() (uint64, *Vals, error) {
	if len(ix.blocks) == 0 {
		ix.beyond++
		if err := ix.Reserve(0, 1, true); err != nil {
			return 0, nil, err
		}
	}
	last := len(ix.blocks) - 1
	o := ix.blocks[last]
	ix.blocks = ix.blocks[:last]
	b, err := ix.valsFrame(uint64(o / alloc.BlockBytes))
	if err != nil {
		return 0, nil, err
	}
	if err := ix.r.SetLive(o); err != nil {
		return 0, nil, err
	}
	clear(b[:])
	setVbBirth(b, ix.epoch)
	return uint64(o / alloc.BlockBytes), b, nil
}
