//go:build nvkvdebug

package btree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"nvkv/nvmap"
)

// checks lists the pages that the change under way has changed or made. When the change ends, each
// must be what docs/format.md describes, so that no page that breaks the format is ever written.
type checks struct{ pages []nvmap.PageID }

// born notes a new page, which the caller is going to fill.
func (c *checks) born(id nvmap.PageID) { c.pages = append(c.pages, id) }

// changed notes that the change of a page has ended. If no other page is being changed, it checks
// all that were noted.
func (c *checks) changed(ix *Index, id nvmap.PageID) {
	if c.pages = append(c.pages, id); len(ix.changing) > 0 {
		return
	}
	for _, id := range c.pages {
		c.page(ix, id)
	}
	c.forget()
}

func (c *checks) page(ix *Index, id nvmap.PageID) {
	pg := ix.at(id)
	switch {
	case pg[pgKind] == pageInner && Count(pg) == 0 && Birth(pg) == ix.epoch:
		return // it was born in the change under way, and gets its first child next
	case !pageSound(pg, id):
		panic(fmt.Sprintf("btree: page %#x is not sound after a change: kind %d, level %d, %d entries, heap top %d, garbage %d, prefix %d",
			uint64(id.Off()), pg[pgKind], Level(pg), u16(pg, pgCount), u16(pg, pgHeapTop), u16(pg, pgGarbage), u16(pg, pgPrefix)))
	case nvmap.PageID(binary.LittleEndian.Uint64(pg[pgSelf:])) != id:
		panic(fmt.Sprintf("btree: page %#x has another number", uint64(id.Off())))
	case Birth(pg) > ix.epoch:
		panic(fmt.Sprintf("btree: page %#x was born in epoch %d, it is %d now", uint64(id.Off()), Birth(pg), ix.epoch))
	}
}

// entry checks the way p to an entry that was stored last: each page names the next one, and the
// keys of the leaf lie between its fences.
func (c *checks) entry(ix *Index, p *Path) {
	for level := ix.height - 1; level > 0; level-- {
		pg, at := ix.at(p.steps[level].page), p.steps[level].at
		if Level(pg) != level || at >= Count(pg) || ChildAt(pg, Count(pg), at).Page != p.steps[level-1].page {
			panic(fmt.Sprintf("btree: page %#x, entry %d, does not lead to the page that was changed", uint64(p.steps[level].page.Off()), at))
		}
	}
	pg := ix.at(p.steps[0].page)
	low, high, err := ix.fences(p, 0)
	first, _, errFirst := ix.KeyOf(pg, Count(pg), 0)
	last, _, errLast := ix.KeyOf(pg, Count(pg), Count(pg)-1)
	if err != nil || errFirst != nil || errLast != nil {
		return // a long key that cannot be read
	}
	if low != nil && bytes.Compare(first, low) < 0 || high != nil && bytes.Compare(last, high) >= 0 {
		panic(fmt.Sprintf("btree: leaf %#x has keys from %q to %q, and its fences are %q and %q", uint64(p.steps[0].page.Off()), first, last, low, high))
	}
}

// forget ends the list.
func (c *checks) forget() { c.pages = slices.Delete(c.pages, 0, len(c.pages)) }
