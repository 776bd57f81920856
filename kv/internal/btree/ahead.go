package btree

import "nvkv/nvmap"

// Ahead yields the references of a sequence of leaves, in order, and prefetches each record some
// time before it is yielded. So records in random order on the medium cost their share of its
// bandwidth, not one wait each. Ahead continues across the end of a leaf: entering a leaf
// prefetches its neighbour.
type Ahead struct {
	ix     *Index
	leaves leaves
	vals   *Vals // of the leaf whose references are being taken
	at     int   // its next entry
	step   int   // 1: upwards, -1: downwards
	left   int   // entries not taken yet, from at on
	ended  bool  // no leaf follows
	err    error // the error that ended the walk, if any

	lines int // prefetched of each record

	head, asked, tail uint // counts of references: yielded, prefetched, taken
	refs              [AheadMost]Ref
	pages             []nvmap.PageID // pages of records to be read, on a device that is not mapped
}

// leaves is a walk over leaves: a Cursor or a Trail.
type leaves interface {
	// NextLeaf moves to the next leaf in the direction of the walk and calls a.enter with it. It
	// returns false after the last leaf.
	NextLeaf(a *Ahead) (bool, error)
}

const (
	// LookAhead is how many records are being prefetched at a time. The CPU has a bounded number of
	// misses under way: more requests would only wait, fewer would leave some of them unused.
	LookAhead = 12

	// AheadMost is how many references are held at most, and how many records are read together
	// where the device is not mapped. It is a power of two, and not below LookAhead or the callers'
	// batches.
	AheadMost = 64

	// recordLines is how many cache lines of each record are prefetched if its size is unknown.
	recordLines = 3

	// linesMost is how many cache lines of a large record are prefetched. The rest continues in
	// order, and the CPU's prefetcher detects that by itself.
	linesMost = 32
)

// Reset starts a walk, before its first leaf.
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

// enter continues at an entry of a leaf with n entries.
func (a *Ahead) enter(vals *Vals, at, n int) {
	a.vals, a.at = vals, at
	if a.left = n - at; a.step < 0 {
		a.left = at + 1
	}
}

// EnterCursor continues at the entry of the cursor and prefetches the next leaf.
func (a *Ahead) EnterCursor(c *Cursor) {
	c.askBeside(a.step)
	a.enter(c.vals, c.At(), c.n)
}

// Renew calls c.Renew for the cursor of the walk.
func (a *Ahead) Renew(c *Cursor) {
	c.Renew()
	a.vals = c.vals
}

// EnterTrail continues at an entry of the trail's leaf. It prefetches some of the next n records,
// and the next leaf if they reach into it.
func (a *Ahead) EnterTrail(t *Trail, at, n int) {
	a.enter(t.vals, at, t.n)
	if left := t.n - at; left < n {
		a.Hold(min(left, LookAhead)) // these records are needed before the next leaf
		a.Ask(LookAhead)
		t.askBeside()
	}
}

// Err returns the error that ended the walk, or nil.
func (a *Ahead) Err() error { return a.err }

// Peek returns the references of up to n of the next records. Before that it prefetches records
// until want of them are under way, these included: at most n+LookAhead, or AheadMost where the
// device is not mapped. It returns none after the last record or after an error, see Err. The slice
// is valid until the next call. Skip consumes what was used.
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

// Hold takes references from the leaves until n are held, and prefetches nothing.
func (a *Ahead) Hold(n int) {
	for a.tail-a.head < uint(n) && (a.left > 0 || a.turn()) {
		a.take()
	}
}

// Ask prefetches the next n records, as far as their references are held, if the device is mapped.
// It needs no section.
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

// readTogether reads the pages of the next n records in one batch.
func (a *Ahead) readTogether(n int) {
	a.Hold(n)
	a.pages = a.pages[:0]
	for to := a.head + min(a.tail-a.head, uint(n)); a.asked < to; a.asked++ {
		a.pages = a.ix.RecordPages(a.pages, RefOff(a.refs[a.asked%AheadMost]))
	}
	a.ix.m.ReadAhead(a.pages)
}

// Skip consumes n references that Peek returned.
func (a *Ahead) Skip(n int) { a.head += uint(n) }

// stretch returns the references from one count up to another, or up to the end of the array if
// that comes first.
func (a *Ahead) stretch(from, to uint) []Ref {
	at := from % AheadMost
	return a.refs[at:min(at+to-from, AheadMost)]
}

// take takes references from the leaf, as many as there is space for.
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

// turn enters the next leaf, which may be empty. It returns false if there is none.
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
