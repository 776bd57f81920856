package btree

import "nvkv/nvmap"

// Abandon leaves the index as readers may find it after a change that did not end:
// a private build is forgotten, and nobody waits for a page.
func (ix *Index) Abandon() {
	for _, id := range ix.changing {
		ix.m.EndChange(id)
	}
	ix.changing = ix.changing[:0]
	ix.checks.forget()
	if ix.private {
		ix.private, ix.shape = false, ix.before
		ix.replaced, ix.departed = ix.replaced[:0], ix.departed[:0]
	}
}

// begin and end enclose a change of a page that readers may be in. What began last
// ends first.
func (ix *Index) begin(id nvmap.PageID) {
	ix.moved++
	ix.beginVals(id)
}

// beginVals is begin for a change of references alone, which leaves all keys where they are.
func (ix *Index) beginVals(id nvmap.PageID) {
	ix.changing = append(ix.changing, id)
	ix.m.BeginChange(id)
	ix.step()
}

func (ix *Index) end(id nvmap.PageID) {
	ix.step()
	ix.m.EndChange(id)
	ix.changing = ix.changing[:len(ix.changing)-1]
	ix.checks.changed(ix, id)
}

// OnStep has fn called where a change may be interrupted, for a test.
func (ix *Index) OnStep(fn func()) { ix.seam = fn }

// step is where a test may interrupt a change.
func (ix *Index) step() {
	if ix.seam != nil {
		ix.seam()
	}
}

// HalfChanged says whether a change of a page is under way.
func (ix *Index) HalfChanged() bool { return len(ix.changing) > 0 }
