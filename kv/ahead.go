package kv

import "nvkv/nvmap"

// ahead hands out what the leaves name, in order, and asks for each record a
// while before it is handed out: records in random order on the medium then
// cost their share of the medium's bandwidth and not a wait each. It goes on
// over the end of a leaf, whose neighbour was asked for when it was entered.
type ahead struct {
	ix     *index
	leaves leaves
	vals   *vblock // of the leaf whose records are being asked for
	at     int     // entry of it that is next
	step   int     // 1 upwards, -1 downwards
	left   int     // entries from at on
	ended  bool    // no leaf follows
	err    error   // why none follows

	head, tail uint // of refs: read and asked for so far
	refs       [aheadMost]ref
	pages      []nvmap.PageID // where they lie, on a device that is not mapped
}

// leaves are what a walk leads to, one after the other.
type leaves interface {
	// nextLeaf moves to the next leaf in the walk's direction and calls
	// ahead.enter with it. It returns false behind the last.
	nextLeaf(a *ahead) (bool, error)
}

const (
	// lookAhead is how many records are on their way at a time. More than the
	// CPU has room for misses only wait in turn; fewer leave some of it idle.
	lookAhead = 12

	// aheadMost is how many are asked for together where the device is not read in
	// place; a power of two that holds lookAhead.
	aheadMost = 64

	// recordLines is how many lines of each record are asked for. The rest of a
	// large one follows in order, which the CPU sees by itself.
	recordLines = 3
)

// reset makes a walk begin before its first leaf.
func (a *ahead) reset(ix *index, l leaves, step int) {
	a.ix, a.leaves, a.vals, a.step = ix, l, nil, step
	a.at, a.left, a.ended, a.err = 0, 0, false, nil
	a.head, a.tail = 0, 0
}

// enter goes on in a leaf of n entries, at one of them.
func (a *ahead) enter(vals *vblock, at, n int) {
	a.vals, a.at = vals, at
	if a.left = n - at; a.step < 0 {
		a.left = at + 1
	}
}

// next returns the next record's place after asking for others until as many
// as want are on their way, it included; at most lookAhead, or aheadMost together
// where the device is not read in place. It returns false behind the last one, and
// when an error keeps it from going on.
func (a *ahead) next(want int) (ref, bool) {
	most := lookAhead
	if !a.ix.mapped {
		most = a.together()
	}
	for want = min(want, most); a.tail-a.head < uint(want); {
		if a.left == 0 {
			if !a.turn() {
				break
			}
			continue
		}
		x := valAt(a.vals, a.at)
		a.at += a.step
		a.left--
		a.refs[a.tail%aheadMost] = x
		a.tail++
		a.ix.askRecord(refOff(x))
	}
	if a.head == a.tail {
		return 0, false
	}
	if most > lookAhead {
		a.readPages()
	}
	x := a.refs[a.head%aheadMost]
	a.head++
	return x, true
}

// together is how many records may be asked for now on a device that is not read
// in place: none while some are left that were.
func (a *ahead) together() int {
	if a.head != a.tail {
		return 0
	}
	return aheadMost
}

// readPages has the pages of the records that are asked for read together.
func (a *ahead) readPages() {
	a.pages = a.pages[:0]
	for i := a.head; i != a.tail; i++ {
		a.pages = a.ix.recordPages(a.pages, refOff(a.refs[i%aheadMost]))
	}
	a.ix.m.ReadAhead(a.pages)
}

// turn goes on to the next leaf.
func (a *ahead) turn() bool {
	if a.ended {
		return false
	}
	more, err := a.leaves.nextLeaf(a)
	if !more || err != nil {
		a.ended, a.err = true, err
	}
	return !a.ended
}
