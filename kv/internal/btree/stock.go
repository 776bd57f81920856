package btree

import (
	"errors"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Reserve makes sure that this many pages and blocks can be taken without an error, because nothing
// may fail after the first record of a commit is stored (I1). If it fails it has taken nothing. If
// urgent, it may borrow from the room that is kept for calls that give space back; the caller then
// calls KeepStock afterwards.
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

// Stock is a number of reserved pages and blocks.
type Stock struct{ Pages, Blocks int }

// Frames returns how many frames they take at most.
func (n Stock) Frames() int { return n.Pages + n.Blocks }

// Covers says whether n is enough for m.
func (n Stock) Covers(m Stock) bool { return m.Pages <= n.Pages && m.Blocks <= n.Blocks }

// Add adds m to n.
func (n *Stock) Add(m Stock) { n.Pages, n.Blocks = n.Pages+m.Pages, n.Blocks+m.Blocks }

// StockMost is how much a commit leaves reserved for the next one: a few times the need of a single
// record. KeepStock gives the excess back if there is more than twice that.
var StockMost = Stock{Pages: 32, Blocks: 16}

// stockLarge is how many pages and blocks a commit leaves reserved at most, in an index that is eight
// times as large: batches come in rows, and handing pages out and taking them back for each of them
// costs more than publishing it.
const stockLarge = 256

func (ix *Index) Reserved() Stock { return Stock{len(ix.pages), len(ix.blocks)} }

// KeepReserved gives back the reserved pages and blocks beyond n. Nothing was written to them.
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

// KeepStock gives back what a large commit reserved and did not need. If something was borrowed it
// gives everything back: a put must not get pages of the kept room through the stock (A13).
func (ix *Index) KeepStock() {
	if ix.borrowed {
		ix.borrowed = false
		ix.KeepReserved(Stock{})
		return
	}
	most, more := StockMost, min(ix.leaves/8, stockLarge)
	most.Pages, most.Blocks = max(most.Pages, more), max(most.Blocks, more)
	if len(ix.pages) > 2*most.Pages || len(ix.blocks) > 2*most.Blocks {
		ix.KeepReserved(most)
	}
}

// BeyondReserve returns how many pages and blocks were taken without a reservation since its last
// call.
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

// bornPage makes a new, empty page. No reader can see it yet.
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

// FetchBlocks reads the pages of the next n reserved blocks, if the device is not mapped. A page may
// have other blocks, so bornVals reads it unless it has a frame. If that read failed between the
// changes of a transaction that is shown at one instant, the transaction would be half shown. The
// frames stay until the section ends. A page that gets no frame, because the bound or the policy of
// the cache excludes it, is left to bornVals.
func (ix *Index) FetchBlocks(n int) error {
	if ix.mapped {
		return nil
	}
	for _, o := range ix.blocks[max(0, len(ix.blocks)-n):] {
		if ix.m.Where(o.Page()) != nvmap.OnDevice {
			continue
		}
		if _, err := ix.m.Fetch(o.Page()); err != nil {
			return err
		}
	}
	return nil
}

// bornVals makes a new value block. No reader can see it yet.
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
