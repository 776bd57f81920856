package kv

import "nvkv/nvmap"

// ahead hands out what the leaves name, in order, and asks for each record a
// while before it is handed out: records in random order on the medium then
// cost their share of the medium's bandwidth and not a wait each. It goes on
// over the end of a leaf, whose neighbour was asked for when it was entered.
type ahead struct {
	ix     *index
	leaves leaves
	vals   *vblock // of the leaf whose refs are being taken
	at     int     // entry of it that is next
	step   int     // 1 upwards, -1 downwards
	left   int     // entries from at on
	ended  bool    // no leaf follows
	err    error   // why none follows

	head, asked, tail uint // of refs: handed out, asked for and taken so far
	refs              [aheadMost]ref
	pages             []nvmap.PageID // where they lie, on a device that is not mapped
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

	// aheadMost is how many places are held at most, and how many records are asked
	// for together where the device is not read in place; a power of two that holds
	// atOnce and lookAhead, and chunkMost.
	aheadMost = 64

	// recordLines is how many lines of each record are asked for. The rest of a
	// large one follows in order, which the CPU sees by itself.
	recordLines = 3
)

// reset makes a walk begin before its first leaf.
func (a *ahead) reset(ix *index, l leaves, step int) {
	a.ix, a.leaves, a.vals, a.step = ix, l, nil, step
	a.at, a.left, a.ended, a.err = 0, 0, false, nil
	a.head, a.asked, a.tail = 0, 0, 0
}

// enter goes on in a leaf of n entries, at one of them.
func (a *ahead) enter(vals *vblock, at, n int) {
	a.vals, a.at = vals, at
	if a.left = n - at; a.step < 0 {
		a.left = at + 1
	}
}

// peek returns up to n of the next records' places, after asking for records until
// as many as want are on their way, these included; at most lookAhead more than n,
// or aheadMost together where the device is not read in place. It returns none
// behind the last one, and when an error keeps it from going on. What it returns
// is good until the next call; skip says that it was used.
func (a *ahead) peek(n, want int) []ref {
	if a.ix.mapped {
		want = min(want, n+lookAhead)
		a.hold(want)
		a.ask(want - int(a.asked-a.head))
	} else if a.asked == a.head {
		a.readTogether(min(want, aheadMost))
	}
	return a.stretch(a.head, a.head+min(a.asked-a.head, uint(n)))
}

// hold takes the places of the next n records, without asking for any.
func (a *ahead) hold(n int) {
	for a.tail-a.head < uint(n) && (a.left > 0 || a.turn()) {
		a.take()
	}
}

// ask asks for the next n records, as far as their places are held, where the
// device is mapped. It needs no section.
func (a *ahead) ask(n int) {
	if !a.ix.mapped {
		return
	}
	for to := a.asked + min(a.tail-a.asked, uint(max(n, 0))); a.asked < to; {
		xs := a.stretch(a.asked, to)
		a.ix.m.PrefetchView(xs, recordLines)
		a.asked += uint(len(xs))
	}
}

// readTogether has the pages of the next n records read together.
func (a *ahead) readTogether(n int) {
	a.hold(n)
	a.pages = a.pages[:0]
	for to := a.head + min(a.tail-a.head, uint(n)); a.asked < to; a.asked++ {
		a.pages = a.ix.recordPages(a.pages, refOff(a.refs[a.asked%aheadMost]))
	}
	a.ix.m.ReadAhead(a.pages)
}

// skip goes on behind n records that peek has returned.
func (a *ahead) skip(n int) { a.head += uint(n) }

// stretch returns what refs holds from one place on to another, or to the end of
// the array if that comes first.
func (a *ahead) stretch(from, to uint) []ref {
	at := from % aheadMost
	return a.refs[at:min(at+to-from, aheadMost)]
}

// take takes places from the leaf, as many as there is room for.
func (a *ahead) take() {
	n := min(a.left, int(aheadMost-(a.tail-a.head)))
	vals, at, tail := a.vals, a.at, a.tail
	for to := tail + uint(n); tail < to; tail++ {
		a.refs[tail%aheadMost] = valAt(vals, at)
		at += a.step
	}
	a.at, a.tail = at, tail
	a.left -= n
}

// turn goes on to the next leaf, which may be empty.
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
