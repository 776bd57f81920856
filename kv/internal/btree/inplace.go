package btree

// renew changes a page of an older epoch in place, as an index without I4 would. Tests use it.
func (ix *Index) renew(p *Path, level int, parent *Page) (*Page, error) {
	pg, err := ix.m.Frame(p.steps[level].page)
	if err == nil {
		setBirth(pg, ix.epoch)
		if parent != nil {
			ix.link(p, level, parent)
		}
	}
	return pg, err
}

func (ix *Index) renewVals(p *Path, parent *Page) (*Vals, error) {
	b, err := ix.valsFrame(p.vals)
	if err == nil {
		setVbBirth(b, ix.epoch)
		ix.linkVals(p, parent)
	}
	return b, err
}
