package btree

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// within says whether c names places inside the device.
func (ix *Index) within(c Child) bool {
	pages := uint64(ix.m.End()) / nvmap.PageBytes
	return c.Page != 0 && uint64(c.Page) < pages && c.Vals/BlocksPerPage < pages
}

// Load returns a page for reading, if it has the level that c names. Pages read from the device are
// verified once per opening, a leaf together with its value block.
func (ix *Index) Load(c Child) (*Page, error) {
	if !ix.within(c) {
		return nil, outside(c)
	}
	return ix.load(&c)
}

// outside is the error for a child that names a place outside the device.
func outside(c Child) error {
	return &record.CorruptError{Off: uint64(c.Page.Off()), Structure: "index child"}
}

// load is Load for a child within the device.
func (ix *Index) load(c *Child) (*Page, error) {
	pg := ix.at(c.Page)
	if !ix.m.Known(c.Page) {
		if err := ix.met(*c, pg); err != nil {
			return nil, err
		}
	}
	if !c.is(pg) {
		return nil, c.wrong()
	}
	return pg, nil
}

// met verifies a page that is met for the first time since the map was opened or since its frame
// was evicted, and reports it to the cache policy.
func (ix *Index) met(c Child, pg *Page) error {
	ix.m.Touch(c.Page)
	if c.Vals != 0 {
		ix.m.Touch(c.ValsOff().Page())
	}
	if ix.m.Verified(c.Page) {
		return nil
	}
	return ix.verify(c, pg)
}

// verify checks checksums and births. Dirty parts have no checksum yet, and need none: this process
// made them.
func (ix *Index) verify(c Child, pg *Page) error {
	if !ix.r.MayHold(c.Page.Off(), alloc.KindPage) || !ix.whole(c.Page, 1<<BlocksPerPage-1, func() bool {
		return pageSealed(pg, ix.seed, c.Page) && (c.loose || bornAs(Birth(pg), c.born, c.above))
	}) {
		return &record.CorruptError{Off: uint64(c.Page.Off()), Structure: "index page"}
	}
	if c.Vals != 0 {
		o := c.ValsOff()
		part := uint(1) << (o % nvmap.PageBytes / alloc.BlockBytes)
		if !ix.r.MayHold(o, alloc.KindBlock) || !ix.whole(o.Page(), part, func() bool {
			b := ix.Vals(c.Vals)
			return valsSealed(b, ix.seed, o) && (c.loose || bornAs(ValsBirth(b), c.valsBorn, c.above))
		}) {
			return &record.CorruptError{Off: uint64(o), Structure: "value block"}
		}
	}
	ix.m.SetVerified(c.Page)
	return nil
}

// bornAs says whether birth has the low bits that the parent states and is not above the parent's
// own birth. A page with a later birth would be changed in place (see own).
func bornAs(birth uint64, low uint16, above uint64) bool {
	return uint16(birth) == low && birth <= above
}

// whole says whether parts of a page are dirty or pass their checksum. A part may become dirty
// while its checksum is computed, so whole looks several times before it reports damage.
func (ix *Index) whole(id nvmap.PageID, parts uint, sealed func() bool) bool {
	for range 3 {
		if ix.m.DirtyParts(id)&parts != 0 || sealed() {
			return true
		}
	}
	return false
}
