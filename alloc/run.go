package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"nvkv/nvmap"
)

// Extent is a run of whole pages.
type Extent struct {
	Off   Off
	Bytes int64 // a multiple of nvmap.PageBytes
}

// AllocRuns hands out pages for n bytes in at most maxExtents extents, and in few
// of them: whole free slabs side by side, then pages of a shared slab for the
// rest. Where no slab is free, what is free between the pages of shared ones is
// taken, the longest stretches first. An extent never crosses a group. Nothing is
// taken when it fails.
func (r *Region) AllocRuns(n int64, maxExtents int) ([]Extent, error) {
	var out []Extent
	pages := (n + nvmap.PageBytes - 1) / nvmap.PageBytes
	perSlab := int64(r.geo.slabBytes / nvmap.PageBytes)
	fail := func(err error) ([]Extent, error) {
		for _, e := range out {
			r.FreeRun(e)
		}
		return nil, err
	}
	for pages > 0 {
		if len(out) == maxExtents {
			return fail(fmt.Errorf("%w: no %d extents hold %d bytes", ErrFull, maxExtents, n))
		}
		var e Extent
		var err error
		if pages >= perSlab {
			e, err = r.allocSlabs(int(pages / perSlab))
		} else {
			e, err = r.allocPages(int32(pages))
		}
		if errors.Is(err, ErrFull) {
			if holes := r.takeHoles(pages, maxExtents-len(out)); holes != nil {
				return append(out, holes...), nil
			}
		}
		if err != nil {
			return fail(err)
		}
		out = append(out, e)
		pages -= e.Bytes / nvmap.PageBytes
	}
	return out, nil
}

// allocSlabs takes up to n free slabs side by side, the longest stretch that
// it finds up to that.
func (r *Region) allocSlabs(n int) (Extent, error) {
	if !r.secure() {
		return Extent{}, errNoBlocks
	}
	if r.freeSlabs-r.freeIndex-n < r.reserve {
		if err := r.grow(min(n, r.geo.groupSlabs)); err != nil && (r.freeSlabs <= r.reserve || !errors.Is(err, ErrFull)) {
			return Extent{}, err
		}
	}
	first, length := r.freeStretch(min(n, r.freeSlabs-r.reserve))
	if length == 0 {
		return Extent{}, fmt.Errorf("%w: no free slab beyond the reserve", ErrFull)
	}
	for i := first; i < first+length; i++ {
		if err := r.back(i); err != nil {
			return Extent{}, err
		}
	}
	for i := first; i < first+length; i++ {
		if err := r.carve(int32(i), KindRun, 0); err != nil {
			return Extent{}, err
		}
		s := &r.slabs[i]
		for p := range s.slots {
			r.use(s, p)
		}
		r.wear[i>>r.geo.groupShift] += uint64(r.geo.slabBytes)
	}
	return Extent{r.geo.slabOff(first), int64(length) * int64(r.geo.slabBytes)}, nil
}

// freeStretch finds the first stretch of want free slabs, or the longest, that
// leaves the reserve its blocks.
func (r *Region) freeStretch(want int) (first, length int) {
	run, sure, most := 0, 0, r.freeSlabs
	if r.sureSlabs < r.freeSlabs {
		most = max(0, r.sureSlabs-r.reserve)
	}
	for i := range r.slabs {
		if r.slabs[i].blocks == blocksThere {
			sure++
		}
		if !r.isFree(i) || sure > most {
			run, sure = 0, 0
			continue
		}
		if run++; run > length {
			first, length = i-run+1, run
			if length >= want {
				return first, max(want, 0)
			}
		}
	}
	return first, length
}

// allocPages takes n pages side by side inside one slab.
func (r *Region) allocPages(n int32) (Extent, error) {
	l := &r.lists[r.listOf(KindRun, 0)]
	for b := buckets - 1; b >= 0; b-- {
		for i, tried := l.head[b], 0; i != none && tried < 8; i, tried = r.slabs[i].next, tried+1 {
			if first := r.slabs[i].freePages(n); first != none {
				return r.takePages(i, first, n), nil
			}
		}
	}
	i, err := r.takeFree(KindRun, false)
	if err == nil {
		err = r.carve(i, KindRun, 0)
	}
	if err != nil {
		return Extent{}, err
	}
	return r.takePages(i, 0, n), nil
}

// takeHoles takes pages that are free in shared slabs, as few stretches of them as
// possible and most at most; nil and nothing if these do not hold them all.
func (r *Region) takeHoles(pages int64, most int) []Extent {
	type hole struct{ slab, first, n int32 }
	if r.Waste(KindRun) < pages*nvmap.PageBytes {
		return nil
	}
	var holes []hole
	l := &r.lists[r.listOf(KindRun, 0)]
	for b := range buckets {
		for i := l.head[b]; i != none; i = r.slabs[i].next {
			s := &r.slabs[i]
			for p := int32(0); p < s.slots; p++ {
				first := p
				for p < s.slots && !has(s.used, p) {
					p++
				}
				if p > first {
					holes = append(holes, hole{i, first, p - first})
				}
			}
		}
	}
	slices.SortFunc(holes, func(a, b hole) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.slab, b.slab), cmp.Compare(a.first, b.first))
	})
	n, left := 0, pages
	for ; n < len(holes) && left > 0; n++ {
		holes[n].n = int32(min(int64(holes[n].n), left))
		left -= int64(holes[n].n)
	}
	if left > 0 || n > most {
		return nil
	}
	out := make([]Extent, n)
	for i, h := range holes[:n] {
		out[i] = r.takePages(h.slab, h.first, h.n)
	}
	return out
}

func (s *slab) freePages(n int32) int32 {
	run := int32(0)
	for p := range s.slots {
		if has(s.used, p) {
			run = 0
		} else if run++; run == n {
			return p - n + 1
		}
	}
	return none
}

func (r *Region) takePages(i, first, n int32) Extent {
	s := &r.slabs[i]
	for p := first; p < first+n; p++ {
		r.use(s, p)
	}
	r.wear[int(i)>>r.geo.groupShift] += uint64(n) * nvmap.PageBytes
	r.relist(i)
	return Extent{r.geo.slabOff(int(i)) + Off(first)*nvmap.PageBytes, int64(n) * nvmap.PageBytes}
}

// eachPage calls fn for the pages of e.
func (e Extent) eachPage(fn func(Off)) {
	for o := e.Off; o < e.Off+Off(e.Bytes); o += nvmap.PageBytes {
		fn(o)
	}
}

// FreeRun takes the pages of an extent back; see Free.
func (r *Region) FreeRun(e Extent) { e.eachPage(r.Free) }

// SetLiveRun and ClearLiveRun are SetLive and ClearLive for the pages of e.
func (r *Region) SetLiveRun(e Extent) { e.eachPage(r.SetLive) }

// ClearLiveRun says that the index does not reach the pages of e any more.
func (r *Region) ClearLiveRun(e Extent) { e.eachPage(r.ClearLive) }

// ClaimRun is Claim for the pages of an extent, which it checks first: e comes
// from the medium. It claims all pages or none.
func (r *Region) ClaimRun(e Extent) error {
	if err := r.CheckExtent(e); err != nil {
		return err
	}
	var err error
	end := e.Off
	e.eachPage(func(o Off) {
		if err == nil {
			if err = r.Claim(o, KindRun); err == nil {
				end = o + nvmap.PageBytes
			}
		}
	})
	if err != nil {
		Extent{e.Off, int64(end - e.Off)}.eachPage(r.Unclaim)
	}
	return err
}

// UnclaimRun is the inverse of ClaimRun.
func (r *Region) UnclaimRun(e Extent) {
	if r.CheckExtent(e) == nil {
		e.eachPage(r.Unclaim)
	}
}

// CheckExtent says whether e is a run of whole pages inside one group.
func (r *Region) CheckExtent(e Extent) error {
	lo, hi := Off(r.geo.superBytes), r.geo.slabOff(len(r.slabs))
	bad := e.Bytes <= 0 || e.Bytes%nvmap.PageBytes != 0 || e.Off%nvmap.PageBytes != 0 ||
		e.Off < lo || e.Off >= hi || Off(e.Bytes) > hi-e.Off
	if bad {
		return fmt.Errorf("%w: extent of %d bytes at %#x", ErrCorrupt, e.Bytes, uint64(e.Off))
	}
	return nil
}
