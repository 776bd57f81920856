package kv

import (
	"nvkv/alloc"
	"nvkv/nvmap"
)

// visitor is told of everything below a root, parents first. Nil members are
// skipped.
type visitor struct {
	// page is told of index and overflow pages. It returns whether to go on
	// below it.
	page func(id nvmap.PageID, pg *page) (bool, error)
	// vals is told of a leaf's value block.
	vals func(n uint64, b *vblock) error
	// leaf is told of a leaf with its records.
	leaf func(pg *page, b *vblock) error
}

// walk visits what root reaches. The tree below root must not change meanwhile.
func (ix *index) walk(root nvmap.PageID, v *visitor) error {
	return ix.walkPage(child{page: root}, -1, v)
}

// walkPage visits a page in a section, and what is below it in others.
func (ix *index) walkPage(c child, level int, v *visitor) error {
	below, err := ix.visit(c, level, v)
	if err != nil || below == nil {
		return err
	}
	for i, n := 0, pageCount(below); i < n; i++ {
		if i%childrenMost == 0 && !ix.mapped {
			if ix.room != nil {
				ix.room()
			}
			ix.askChildren(below, i, 1, childrenMost)
		}
		if err := ix.walkPage(childAt(below, n, i), pageLevel(below)-1, v); err != nil {
			return err
		}
	}
	return nil
}

// visit tells v of a page and of what hangs on it, and returns a copy of the
// page if the walk goes on below it.
func (ix *index) visit(c child, level int, v *visitor) (below *page, err error) {
	s := ix.sections.begin()
	defer s.leave()
	pg, err := ix.load(c)
	if err != nil {
		return nil, err
	}
	if level >= 0 && pageLevel(pg) != level {
		return nil, &CorruptError{Off: uint64(c.page.Off()), Structure: "index page level"}
	}
	deeper := true
	if v.page != nil {
		if deeper, err = v.page(c.page, pg); err != nil {
			return nil, err
		}
	}
	if deeper {
		if err := ix.walkChains(pg, v); err != nil {
			return nil, err
		}
	}
	if pageLevel(pg) == 0 {
		return nil, ix.visitVals(c, pg, v)
	}
	if !deeper {
		return nil, nil
	}
	below = new(page)
	*below = *pg
	return below, nil
}

func (ix *index) visitVals(c child, pg *page, v *visitor) error {
	b := ix.vals(c.vals)
	if v.vals != nil {
		if err := v.vals(c.vals, b); err != nil {
			return err
		}
	}
	if v.leaf != nil {
		return v.leaf(pg, b)
	}
	return nil
}

// walkChains visits the overflow pages that a page's keys name.
func (ix *index) walkChains(pg *page, v *visitor) error {
	if v.page == nil {
		return nil
	}
	n := pageCount(pg)
	for i := range n {
		id := ix.chainOf(pg, n, i)
		if id == 0 {
			continue
		}
		err := ix.eachOverflow(id, func(id nvmap.PageID, pg *page) error {
			_, err := v.page(id, pg)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reach calls fn for every slot that root reaches, with its kind, and for the
// extents of spilled records.
func (db *DB) reach(root nvmap.PageID, fn func(o nvmap.Off, k alloc.Kind) error, runs func(alloc.Extent) error) error {
	return db.ix.walk(root, &visitor{
		page: func(id nvmap.PageID, _ *page) (bool, error) { return true, fn(id.Off(), alloc.KindPage) },
		vals: func(n uint64, _ *vblock) error { return fn(child{vals: n}.valsOff(), alloc.KindBlock) },
		leaf: func(pg *page, b *vblock) error {
			for i := range min(pageCount(pg), leafFanout) {
				x := valAt(b, i)
				if err := fn(refOff(x), alloc.KindRecord); err != nil {
					return err
				}
				if x&refSpill == 0 {
					continue
				}
				if err := db.reachRuns(refOff(x), runs); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func (db *DB) reachRuns(o nvmap.Off, runs func(alloc.Extent) error) error {
	var rec record
	if err := db.readRecord(o, &rec); err != nil {
		return nil // named by whoever reads it; its runs cannot be known
	}
	_, list := rec.extents()
	for _, e := range list {
		if err := runs(e); err != nil {
			return err
		}
	}
	return nil
}
