package btree

import "nvkv/nvmap"

// Abandon restores a state that readers can use after a change that did not end. It discards a
// private build and unlocks the pages that the change had locked.
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

// begin and end enclose a change of a page that readers may be reading. Changes nest: the last
// begun is the first to end.
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

// OnStep sets a function that is called wherever a test may interrupt a change.
func (ix *Index) OnStep(fn func()) { ix.seam = fn }

// step is a point at which a test may interrupt a change.
func (ix *Index) step() {
	if ix.seam != nil {
		ix.seam()
	}
}

// HalfChanged says whether a page is being changed.
func (ix *Index) HalfChanged() bool { return len(ix.changing) > 0 }
