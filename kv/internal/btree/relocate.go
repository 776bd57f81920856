package btree

import "nvkv/nvmap"

// Relocate copies those pages of a path, and the leaf's value block, whose offsets satisfy victim
// to new places. The caller has reserved the pages.
func (ix *Index) Relocate(p *Path, victim func(nvmap.Off) bool) error {
	for level := ix.height - 1; level >= 0; level-- {
		if victim(p.steps[level].page.Off()) {
			if _, err := ix.own(p, level); err != nil {
				return err
			}
		}
	}
	if victim(Child{Vals: p.vals}.ValsOff()) {
		_, err := ix.ownVals(p)
		return err
	}
	return nil
}

// RefsFrom returns the references in the leaf of a path, from the entry of the path on.
func (ix *Index) RefsFrom(p *Path) []Ref {
	leaf, b := ix.at(p.steps[0].page), ix.Vals(p.vals)
	n := min(Count(leaf), LeafFanout)
	refs := make([]Ref, 0, n)
	for i := p.steps[0].at; i < n; i++ {
		refs = append(refs, ValAt(b, i))
	}
	return refs
}

// KeyBehind returns the key of the i-th entry after that of the path.
func (ix *Index) KeyBehind(p *Path, i int) ([]byte, error) {
	leaf := ix.at(p.steps[0].page)
	key, _, err := ix.KeyOf(leaf, Count(leaf), p.steps[0].at+i)
	return key, err
}

// Found says whether the key of the path exists.
func (p *Path) Found() bool { return p.found }
