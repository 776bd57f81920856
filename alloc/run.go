package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"nvkv/nvmap"
)

// Extent is a run of whole pages.
type Extent struct {
	Off   Off
	Bytes int64 // a multiple of nvmap.PageBytes
}

// AnyExtents allows AllocRuns any number of extents.
const AnyExtents = math.MaxInt32

// AllocRuns hands out pages for n bytes in at most maxExtents extents, and tries to use few:
// adjacent whole free slabs, then pages of a shared slab for the rest. If no slab is free, it takes
// free pages of shared slabs, the longest stretches first. An extent never crosses a group. If it
// fails, it takes nothing. If there cannot be so many pages, it fails with ErrFull at once and does
// not grow the device.
func (r *Region) AllocRuns(n int64, maxExtents int) ([]Extent, error) {
	if err := r.refusal.next(); err != nil {
		return nil, err
	}
	pages := pagesOf(n)
	if most := r.pagesToBeHad(); pages > most {
		return nil, fmt.Errorf("%w (%d bytes take %d pages of %d, and there are %d)", r.atEnd(), n, pages, nvmap.PageBytes, most)
	}
	var out []Extent
	for pages > 0 {
		e, err := r.allocSome(pages, maxExtents)
		if errors.Is(err, ErrFull) {
			if holes := r.takeHoles(pages, maxExtents-len(out)); holes != nil {
				return append(out, holes...), nil
			}
		}
		if err == nil {
			out = append(out, e)
			pages -= e.Bytes / nvmap.PageBytes
			if pages == 0 || len(out) < maxExtents {
				continue
			}
			err = fmt.Errorf("%w: no %d extents hold %d bytes", ErrFull, maxExtents, n)
		}
		for _, e := range out {
			_ = r.FreeRun(e) // they were handed out above
		}
		return nil, err
	}
	return out, nil
}

func pagesOf(n int64) int64 { return (n + nvmap.PageBytes - 1) / nvmap.PageBytes }

// pagesToBeHad returns the number of pages that runs can get at most, including all possible
// growth.
func (r *Region) pagesToBeHad() int64 {
	slabs := r.Unreserved()
	if !r.readOnly {
		slabs += r.geo.slabsIn(r.m.Device().Info().MaxBytes) - len(r.slabs)
	}
	return r.Waste(KindRun)/nvmap.PageBytes + int64(max(0, slabs))*r.slabPages()
}

// RoomForRuns returns how many bytes of whole pages runs may get at most.
func (r *Region) RoomForRuns() int64 { return r.pagesToBeHad() * nvmap.PageBytes }

func (r *Region) slabPages() int64 { return int64(r.geo.slabBytes / nvmap.PageBytes) }

// allocSome takes some of these pages as one extent.
func (r *Region) allocSome(pages int64, maxExtents int) (Extent, error) {
	perSlab := r.slabPages()
	if pages < perSlab {
		return r.allocPages(int32(pages))
	}
	looks := stretchLooks
	if maxExtents < stretchLooks { // with so few extents, search for the longest stretch
		looks = math.MaxInt
	}
	return r.allocSlabs(int(pages/perSlab), looks)
}

// allocSlabs takes up to n adjacent free slabs: the longest stretch that it finds.
func (r *Region) allocSlabs(n, looks int) (Extent, error) {
	if !r.secure() {
		return Extent{}, errNoBlocks
	}
	if err := r.growFor(n); err != nil && (r.Unreserved() <= 0 || !errors.Is(err, ErrFull)) {
		return Extent{}, err
	}
	first, length := r.freeStretch(min(n, r.Unreserved()), looks)
	length, err := r.backStretch(first, r.sparing(first, length))
	if err == nil && length == 0 { // if these cannot be had, another slab may
		var i int32
		i, err = r.takeFree(KindRun, false)
		first, length = int(i), 1
	}
	if err != nil {
		return Extent{}, err
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

// growFor grows the device by the slabs that are missing for n. If it cannot, it tries half of
// that, and so on.
func (r *Region) growFor(n int) (err error) {
	for step := n; step > 0; {
		missing := n - (r.Unreserved() - r.freeIndex)
		if missing <= 0 {
			return nil
		}
		if err = r.grow(min(missing, step)); errors.Is(err, ErrFull) {
			step = min(missing, step) / 2
		} else if err != nil {
			return err
		}
	}
	return err
}

// sparing returns how many slabs of a free stretch can be taken without the slabs with blocks that
// the reserve needs.
func (r *Region) sparing(first, length int) int {
	if r.sure() >= r.freeSlabs {
		return length
	}
	most := r.sureSlabs - r.keep(KindRun, false)
	for n := range length {
		if r.slabs[first+n].blocks != blocksThere {
			continue
		}
		if most--; most < 0 {
			return n
		}
	}
	return length
}

// backStretch gives the slabs of a free stretch blocks, and returns how many got them.
func (r *Region) backStretch(first, length int) (int, error) {
	for n := range length {
		if err := r.back(first + n); errors.Is(err, ErrFull) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
	return length, nil
}

// allocPages takes n adjacent pages of one slab.
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

// takeHoles takes free pages of shared slabs, in as few stretches as it finds and at most most. If
// they do not suffice, it returns nil and takes nothing.
func (r *Region) takeHoles(pages int64, most int) []Extent {
	if r.Waste(KindRun) < pages*nvmap.PageBytes {
		return nil
	}
	if out := r.takeListed(pages, most); out != nil || len(r.victims) == 0 {
		return out
	}
	r.ReleaseVictims() // the pages are needed more urgently than empty slabs
	return r.takeListed(pages, most)
}

func (r *Region) takeListed(pages int64, most int) []Extent {
	type hole struct{ slab, first, n int32 }
	var holes []hole
	l, found := &r.lists[r.listOf(KindRun, 0)], int64(0)
	for b := buckets - 1; b >= 0; b-- { // slabs with the most room first
		for i := l.head[b]; i != none && (found < pages || len(holes) > most); i = r.slabs[i].next {
			s := &r.slabs[i]
			for p := int32(0); p < s.slots; p++ {
				first := p
				for p < s.slots && !has(s.used, p) {
					p++
				}
				if p > first {
					holes = append(holes, hole{i, first, p - first})
					found += int64(p - first)
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
	r.audits.slab(r, i)
	return Extent{r.geo.slabOff(int(i)) + Off(first)*nvmap.PageBytes, int64(n) * nvmap.PageBytes}
}

// eachPage calls fn for the pages of e.
func (e Extent) eachPage(fn func(Off)) {
	for o := e.Off; o < e.Off+Off(e.Bytes); o += nvmap.PageBytes {
		fn(o)
	}
}

// eachUntil calls fn for the pages of e, and returns the first error.
func (e Extent) eachUntil(fn func(Off) error) (err error) {
	e.eachPage(func(o Off) {
		if bad := fn(o); err == nil {
			err = bad
		}
	})
	return err
}

// FreeRun takes the pages of an extent back; see Free. It returns the error of the
// first page that cannot be taken back.
func (r *Region) FreeRun(e Extent) error { return e.eachUntil(r.Free) }

// SetLiveRun says that the index reaches the pages of e from now on.
func (r *Region) SetLiveRun(e Extent) error { return e.eachUntil(r.SetLive) }

// ClearLiveRun says that the index does not reach the pages of e any more.
func (r *Region) ClearLiveRun(e Extent) error { return e.eachUntil(r.ClearLive) }

// ClaimRun is Claim for the pages of an extent, which it checks first, because e comes from the
// medium. It claims all pages or none.
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

// CheckExtent returns an error if e is not a run of whole pages inside the slabs.
func (r *Region) CheckExtent(e Extent) error {
	lo, hi := Off(r.geo.superBytes), r.geo.slabOff(len(r.slabs))
	bad := e.Bytes <= 0 || e.Bytes%nvmap.PageBytes != 0 || e.Off%nvmap.PageBytes != 0 ||
		e.Off < lo || e.Off >= hi || Off(e.Bytes) > hi-e.Off
	if bad {
		return corruptAt(e.Off, fmt.Sprintf("extent of %d bytes", e.Bytes))
	}
	return nil
}
