package btree

import "nvkv/nvmap"

// ProbesMost is the number of keys that SeekMany looks up side by side at most.
const ProbesMost = 16

// Probe is the search for one key below a root that does not change.
type Probe struct {
	Key   []byte
	Ref   Ref  // the record of the key, if Found
	Found bool // the key is there
	Err   error

	child Child
	pg    *Page
}

// SeekMany looks up ProbesMost keys at most. It goes down level by level with all of them and
// prefetches the next page of each before it looks at any, so that the waits for the medium
// overlap. At the end it prefetches the records. The pages below root must not change meanwhile.
func (ix *Index) SeekMany(root nvmap.PageID, ps []Probe) {
	top, err := ix.Load(RootAt(root))
	for i := range ps {
		p := &ps[i]
		p.Ref, p.Found, p.Err, p.pg = 0, false, err, top
	}
	if err != nil {
		return
	}
	for level := Level(top); level > 0; level-- {
		ix.stepMany(ps)
	}
	for i := range ps {
		if p := &ps[i]; p.Err == nil {
			p.end(ix)
		}
	}
	ix.askRecords(ps)
}

// stepMany takes all probes one level down.
func (ix *Index) stepMany(ps []Probe) {
	var pages [2 * ProbesMost]nvmap.PageID
	missing := pages[:0]
	for i := range ps {
		p := &ps[i]
		if p.Err != nil {
			continue
		}
		at, err := ix.childIndex(p.pg, p.Key)
		if err != nil {
			p.Err = err
			continue
		}
		p.child = ChildAt(p.pg, Count(p.pg), at)
		switch {
		case !ix.within(p.child): // Load reports it
		case ix.mapped:
			ix.prefetchLines(p.child, headLines)
		case ix.missing(p.child):
			missing = ix.childPages(missing, p.child)
		}
	}
	if len(missing) > 0 {
		ix.m.ReadAhead(missing)
	}
	for i := range ps {
		if p := &ps[i]; p.Err == nil {
			p.pg, p.Err = ix.Load(p.child)
		}
	}
}

// end searches the leaf.
func (p *Probe) end(ix *Index) {
	at, equal, err := ix.Search(p.pg, p.Key)
	if err != nil {
		p.Err = err
		return
	}
	if p.Found = equal && at < min(Count(p.pg), LeafFanout); p.Found {
		p.Ref = ValAt(ix.Vals(p.child.Vals), at)
	}
}

// askRecords prefetches the records of the keys that were found.
func (ix *Index) askRecords(ps []Probe) {
	var pages [2 * ProbesMost]nvmap.PageID
	missing := pages[:0]
	for i := range ps {
		switch p := &ps[i]; {
		case !p.Found:
		case ix.mapped:
			ix.AskRecord(RefOff(p.Ref))
		default:
			missing = ix.RecordPages(missing, RefOff(p.Ref))
		}
	}
	if len(missing) > 0 {
		ix.m.ReadAhead(missing)
	}
}
