package btree

import (
	"nvkv/nvmap"
)

// Visitor has the callbacks of a walk. A page comes before the pages below it. Nil callbacks are
// skipped.
type Visitor struct {
	// Page is called for index and overflow pages. It returns whether to visit the pages below.
	Page func(id nvmap.PageID, pg *Page) (bool, error)
	// Vals is called for the value block of a leaf.
	Vals func(n uint64, b *Vals) error
	// Around is called for a page that cannot be read. If it returns nil, the walk continues
	// without the pages below. If Around is nil, the walk ends there.
	Around func(c Child, err error) error
	// Leaf is called for a leaf with its value block.
	Leaf func(pg *Page, b *Vals) error

	left Visits
}

// Walk visits everything below root. The tree below root must not change meanwhile.
func (ix *Index) Walk(root nvmap.PageID, v *Visitor) error {
	v.left = ix.Visits()
	return ix.walkPage(RootAt(root), v)
}

// walkPage visits a page in one section, and the pages below it in other sections.
func (ix *Index) walkPage(c Child, v *Visitor) error {
	below, err := ix.visit(c, v)
	if err != nil && v.Around != nil {
		return v.Around(c, err)
	}
	if err != nil || below == nil {
		return err
	}
	for i, n := 0, Count(below); i < n; i++ {
		if i%ChildrenMost == 0 && !ix.mapped {
			if ix.room != nil {
				ix.room()
			}
			ix.AskChildren(below, i, 1, ChildrenMost)
		}
		if err := ix.walkPage(ChildAt(below, n, i), v); err != nil {
			return err
		}
	}
	return nil
}

// visit calls v for a page, its overflow pages and its value block. It returns a copy of the page
// if the walk continues below it.
func (ix *Index) visit(c Child, v *Visitor) (below *Page, err error) {
	if err := v.left.One(c); err != nil {
		return nil, err
	}
	s := ix.sections.Begin()
	defer s.Leave()
	pg, err := ix.Load(c)
	if err != nil {
		return nil, err
	}
	deeper := true
	if v.Page != nil {
		if deeper, err = v.Page(c.Page, pg); err != nil {
			return nil, err
		}
	}
	if deeper {
		if err := ix.walkChains(pg, v); err != nil {
			return nil, err
		}
	}
	if Level(pg) == 0 {
		return nil, ix.visitVals(c, pg, v)
	}
	if !deeper {
		return nil, nil
	}
	below = new(Page)
	*below = *pg
	return below, nil
}

func (ix *Index) visitVals(c Child, pg *Page, v *Visitor) error {
	b := ix.Vals(c.Vals)
	if v.Vals != nil {
		if err := v.Vals(c.Vals, b); err != nil {
			return err
		}
	}
	if v.Leaf != nil {
		return v.Leaf(pg, b)
	}
	return nil
}

// walkChains visits the overflow pages of a page's long keys.
func (ix *Index) walkChains(pg *Page, v *Visitor) error {
	if v.Page == nil {
		return nil
	}
	n := Count(pg)
	for i := range n {
		err := ix.eachOverflow(chainOf(pg, n, i), func(id nvmap.PageID, pg *Page) error {
			_, err := v.Page(id, pg)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
