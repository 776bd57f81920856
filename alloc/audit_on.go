//go:build nvkvdebug

package alloc

import "fmt"

// audits checks the books of a region after each change. It panics where they are wrong.
type audits struct{ n int }

// auditAllEvery is the number of audits of a single slab after which all slabs are audited.
const auditAllEvery = 4096

// slab audits slab i, which has just changed.
func (a *audits) slab(r *Region, i int32) {
	if !r.ready { // a recovery claims what the medium says
		return
	}
	if a.n++; a.n%auditAllEvery == 0 {
		a.all(r)
	}
	if s := &r.slabs[i]; s.kind != KindFree {
		r.checkSlab(int(i), wrong)
	} else if !r.freeIn(int(i)).has(int(i)) && !s.away {
		wrong(r.geo.slabOff(int(i)), "free slab that is in no set")
	}
}

// all audits all slabs, and the sums over them.
func (a *audits) all(r *Region) {
	if !r.ready {
		return
	}
	var space [kindCount]usage
	free, index, kept := 0, 0, 0
	for i := range r.slabs {
		s := &r.slabs[i]
		switch {
		case r.geo.isMeta(i):
		case s.kind == KindFree:
			if !r.isFree(i) {
				continue // being discarded
			}
			if free++; r.extents[r.extentOf(i)].index {
				index++
			}
			if !r.freeIn(i).has(i) {
				wrong(r.geo.slabOff(i), "free slab that is in no set")
			}
		default:
			r.checkSlab(i, wrong)
			u, size := &space[s.kind], int64(r.slotBytesOf(s))
			u.slabs++
			u.used += size * int64(s.usedN)
			u.live += size * int64(s.liveN)
			if s.kept {
				kept++
			}
		}
	}
	if space != r.space {
		wrong(0, "slabs, used and live bytes by kind are %v, counted %v", space, r.space)
	}
	if free != r.freeSlabs || index != r.freeIndex || kept != r.keptSlabs {
		wrong(0, "%d slabs are free, %d of them for the index, and %d kept; counted %d, %d and %d", free, index, kept, r.freeSlabs, r.freeIndex, r.keptSlabs)
	}
}

func wrong(o Off, format string, args ...any) {
	panic(fmt.Sprintf("alloc: at %#x: %s", uint64(o), fmt.Sprintf(format, args...)))
}
