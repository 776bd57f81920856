package btree

import "nvkv/nvmap"

// Ahead hands out what the leaves name, in order, and asks for each record a
// while before it is handed out: records in random order on the medium then
// cost their share of the medium's bandwidth and not a wait each. It goes on
// over the end of a leaf, whose neighbour was asked for when it was entered.
type Ahead struct {
	ix     *Index
	leaves leaves
	vals   *Vals // of the leaf whose refs are being taken
	at     int   // entry of it that is next
	step   int   // 1 upwards, -1 downwards
	left   int   // entries from at on
	ended  bool  // no leaf follows
	err    error // why none follows

	lines int // asked for of each record

	head, asked, tail uint // of refs: handed out, asked for and taken so far
	refs              [AheadMost]Ref
	pages             []nvmap.PageID // where they lie, on a device that is not mapped
}

// leaves are what a walk leads to, one after the other.
type leaves interface {
	// NextLeaf moves to the next leaf in the walk's direction and calls
	// ahead.enter with it. It returns false behind the last.
	NextLeaf(a *Ahead) (bool, error)
}

const (
	// LookAhead is how many records are on their way at a time. More than the
	// CPU has room for misses only wait in turn; fewer leave some of it idle.
	LookAhead = 12

	// AheadMost is how many places are held at most, and how many records are asked
	// for together where the device is not read in place; a power of two that holds
	// atOnce and LookAhead, and chunkMost.
	AheadMost = 64

	// recordLines is how many lines of each record are asked for, where nothing is known
	// of its size.
	recordLines = 3

	// linesMost is how many lines are asked for of a large record. The rest follows in
	// order, which the CPU sees by itself.
	linesMost = 32
)

// Reset makes a walk begin before its first leaf.
func (a *Ahead) Reset(ix *Index, l leaves, step int) {
	a.ix, a.leaves, a.vals, a.step = ix, l, nil, step
	a.at, a.left, a.ended, a.err = 0, 0, false, nil
	a.head, a.asked, a.tail = 0, 0, 0
	a.lines = recordLines
}

// Width says how many bytes the slot of the last record has. The next records are likely to be of
// that size, and so many lines are prefetched of each.
func (a *Ahead) Width(bytes int) {
	if bytes > 0 {
		a.lines = min((bytes+63)/64, linesMost)
	}
}

// enter goes on in a leaf of n entries, at one of them.
func (a *Ahead) enter(vals *Vals, at, n int) {
	a.vals, a.at = vals, at
	if a.left = n - at; a.step < 0 {
		a.left = at + 1
	}
}

// EnterCursor goes on where a cursor stands, and asks for the leaf that follows.
func (a *Ahead) EnterCursor(c *Cursor) {
	c.askBeside(a.step)
	a.enter(c.vals, c.At(), c.n)
}

// Renew is Cursor.Renew of the cursor that the walk goes by.
func (a *Ahead) Renew(c *Cursor) {
	c.Renew()
	a.vals = c.vals
}

// EnterTrail goes on in the leaf that a trail has come to, at an entry, and asks for
// some of what n records from there on take.
func (a *Ahead) EnterTrail(t *Trail, at, n int) {
	a.enter(t.vals, at, t.n)
	if left := t.n - at; left < n {
		a.Hold(min(left, LookAhead)) // the leaf behind is needed later than these
		a.Ask(LookAhead)
		t.askBeside()
	}
}

// Err returns what keeps the walk from going on, or nil.
func (a *Ahead) Err() error { return a.err }

// Peek returns up to n of the next records' places, after asking for records until
// as many as want are on their way, these included; at most LookAhead more than n,
// or AheadMost together where the device is not read in place. It returns none
// behind the last one, and when an error keeps it from going on. What it returns
// is good until the next call; skip says that it was used.
func (a *Ahead) Peek(n, want int) []Ref {
	if a.ix.mapped {
		want = min(want, n+LookAhead)
		a.Hold(want)
		a.Ask(want - int(a.asked-a.head))
	} else if a.asked == a.head {
		a.readTogether(min(want, AheadMost))
	}
	return a.stretch(a.head, a.head+min(a.asked-a.head, uint(n)))
}

// Hold takes the places of the next n records, without asking for any.
func (a *Ahead) Hold(n int) {
	for a.tail-a.head < uint(n) && (a.left > 0 || a.turn()) {
		a.take()
	}
}

// Ask asks for the next n records, as far as their places are held, where the
// device is mapped. It needs no section.
func (a *Ahead) Ask(n int) {
	if !a.ix.mapped {
		return
	}
	for to := a.asked + min(a.tail-a.asked, uint(max(n, 0))); a.asked < to; {
		xs := a.stretch(a.asked, to)
		a.ix.m.PrefetchView(xs, a.lines)
		a.asked += uint(len(xs))
	}
}

// readTogether has the pages of the next n records read together.
func (a *Ahead) readTogether(n int) {
	a.Hold(n)
	a.pages = a.pages[:0]
	for to := a.head + min(a.tail-a.head, uint(n)); a.asked < to; a.asked++ {
		a.pages = a.ix.RecordPages(a.pages, RefOff(a.refs[a.asked%AheadMost]))
	}
	a.ix.m.ReadAhead(a.pages)
}

// Skip goes on behind n records that peek has returned.
func (a *Ahead) Skip(n int) { a.head += uint(n) }

// stretch returns what refs holds from one place on to another, or to the end of
// the array if that comes first.
func (a *Ahead) stretch(from, to uint) []Ref {
	at := from % AheadMost
	return a.refs[at:min(at+to-from, AheadMost)]
}

// take takes places from the leaf, as many as there is room for.
func (a *Ahead) take() {
	n := min(a.left, int(AheadMost-(a.tail-a.head)))
	vals, at, tail := a.vals, a.at, a.tail
	for to := tail + uint(n); tail < to; tail++ {
		a.refs[tail%AheadMost] = ValAt(vals, at)
		at += a.step
	}
	a.at, a.tail = at, tail
	a.left -= n
}

// turn goes on to the next leaf, which may be empty.
func (a *Ahead) turn() bool {
	if a.ended {
		return false
	}
	more, err := a.leaves.NextLeaf(a)
	if !more || err != nil {
		a.ended, a.err = true, err
	}
	return !a.ended
}
