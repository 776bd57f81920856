package btree

import (
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Cursor walks the leaves below a root whose pages do not change: the root of a snapshot, or any
// root while the caller holds the turn. It keeps its path from the root, because leaves have no
// links to each other: copying a page would change its neighbours.
type Cursor struct {
	ix    *Index
	steps [MaxHeight]step // steps[l].at: entry taken on level l
	top   int             // level of the root
	leaf  *Page
	vals  *Vals
	block uint64 // number of vals
	n     int    // entries in leaf
	valid bool
	warm  bool // prefetch the records of each leaf that it enters
	keys  bool // prefetch the keys of the next leaf instead
	wide  int  // leaves that the last askBeside read together

	leaves Visits // leaves that it may still enter in this direction: see entered
	back   bool   // it moves backward
}

// NewCursor returns a cursor that is on no key. A warm cursor prefetches the records of each leaf
// that it enters.
func NewCursor(ix *Index, warm bool) Cursor { return Cursor{ix: ix, warm: warm} }

// Valid says whether the cursor is on a key.
func (c *Cursor) Valid() bool { return c.valid }

// Leave moves the cursor off its key: it is not valid afterwards.
func (c *Cursor) Leave() { c.valid = false }

// Warm makes the cursor warm from the next leaf on.
func (c *Cursor) Warm() { c.warm = !c.keys }

// AskKeys makes the cursor one whose caller walks forward and wants the keys of each leaf, not its
// records.
func (c *Cursor) AskKeys() { c.keys, c.warm = true, false }

func (c *Cursor) At() int  { return c.steps[0].at }
func (c *Cursor) Ref() Ref { return ValAt(c.vals, c.steps[0].at) }

// Key returns a copy of the key that the cursor is on.
func (c *Cursor) Key() ([]byte, error) {
	key, _, err := c.ix.KeyOf(c.leaf, Count(c.leaf), c.steps[0].at)
	return key, err
}

// AppendKey appends the key of the cursor's entry to dst.
func (c *Cursor) AppendKey(dst []byte) ([]byte, error) {
	return c.ix.appendKey(dst, c.leaf, Count(c.leaf), c.steps[0].at)
}

// appendKey appends the key of entry i of pg to dst.
func (ix *Index) appendKey(dst []byte, pg *Page, n, i int) ([]byte, error) {
	off, _, long := cell(pg, n, i)
	if !long {
		return appendRest(append(dst, pagePrefix(pg)...), pg, n, i), nil
	}
	k, err := ix.longKey(pg[off : off+longCell])
	return append(dst, k...), err
}

// LeafPage returns the leaf of the cursor.
func (c *Cursor) LeafPage() nvmap.PageID { return c.steps[0].page }

// Misplaced returns the error for a leaf whose keys do not belong there: the leaf of the cursor.
func (c *Cursor) Misplaced() error { return misplaced(c.leaf) }

// Renew makes a cursor that was used in an earlier section usable in this one. Frames that it
// pointed to may have been evicted; the pages have not changed.
func (c *Cursor) Renew() {
	if c.leaf == nil {
		return
	}
	m := c.ix.m
	if m.InFrame(c.leaf[:]) {
		c.leaf = c.ix.at(c.steps[0].page)
	}
	if m.InFrame(c.vals[:]) {
		c.vals = c.ix.Vals(c.block)
	}
}

// begin loads the root.
func (c *Cursor) begin(root nvmap.PageID) (*Page, error) {
	c.valid = false
	pg, err := c.ix.Load(RootAt(root))
	if err != nil {
		return nil, err
	}
	c.top, c.leaves = Level(pg), c.ix.Visits()
	c.steps[c.top].page = root
	return pg, nil
}

// enter loads the child that entry at of the inner page pg names. level is the level of pg.
func (c *Cursor) enter(pg *Page, level, at int) (*Page, error) {
	c.steps[level].at = at
	ch := ChildAt(pg, Count(pg), at)
	next, err := c.ix.Load(ch)
	if err != nil {
		return nil, err
	}
	c.steps[level-1].page = ch.Page
	if level == 1 {
		c.leaf, c.vals, c.block, c.n = next, c.ix.Vals(ch.Vals), ch.Vals, min(Count(next), LeafFanout)
		switch {
		case c.keys:
			c.askKeysBeside()
		case c.warm:
			c.prefetch()
		}
	}
	return next, nil
}

// prefetch requests all records of the leaf at once. In random order on the medium they then cost
// one wait together, not one each.
func (c *Cursor) prefetch() {
	if !c.ix.mapped {
		c.askBeside(1)
		return // the caller reads the records, see checker.askRecords
	}
	for i := range c.n {
		c.ix.AskRecord(RefOff(ValAt(c.vals, i)))
	}
}

// askKeysBeside is askBeside for the keys of the leaf that follows.
func (c *Cursor) askKeysBeside() {
	if !c.ix.mapped {
		c.askBeside(1)
		return
	}
	pg := c.ix.at(c.steps[1].page)
	if n, at := Count(pg), c.steps[1].at+1; at < n {
		if next := ChildAt(pg, n, at); c.ix.within(next) {
			c.ix.prefetchLines(next, nvmap.PageBytes/64)
		}
	}
}

// askBeside prefetches the next leaf in a direction, if it has the same parent. Where the device is
// not mapped it reads several leaves together, more the longer the walk.
func (c *Cursor) askBeside(step int) {
	pg := c.ix.at(c.steps[1].page)
	n, at := Count(pg), c.steps[1].at+step
	if at < 0 || at >= n {
		return
	}
	next := ChildAt(pg, n, at)
	switch {
	case !c.ix.within(next):
	case c.ix.mapped:
		c.ix.prefetchWalk(next)
	case c.ix.missing(next):
		c.wide = min(2*c.wide+1, ChildrenMost)
		c.ix.AskChildren(pg, at, step, c.wide)
	}
}

// Seek moves to the first key that is not below key, and says whether it is equal. The cursor is
// not valid if all keys are below.
func (c *Cursor) Seek(root nvmap.PageID, key []byte) (bool, error) {
	pg, err := c.begin(root)
	for level := c.top; err == nil && level > 0; level-- {
		var i int
		if i, err = c.ix.childIndex(pg, key); err == nil {
			c.ix.prefetchSeek(pg, i)
			pg, err = c.enter(pg, level, i)
		}
	}
	if err != nil {
		return false, err
	}
	at, equal, err := c.ix.Search(pg, key)
	if err != nil {
		return false, err
	}
	c.steps[0].at = at
	c.valid = at < c.n
	if !c.valid {
		return false, c.NextLeaf()
	}
	return equal, nil
}

// SeekBelow moves to the last key below key.
func (c *Cursor) SeekBelow(root nvmap.PageID, key []byte) error {
	if _, err := c.Seek(root, key); err != nil {
		return err
	}
	if !c.valid {
		return c.Last(root)
	}
	return c.Prev()
}

// First moves to the first key, Last to the last one.
func (c *Cursor) First(root nvmap.PageID) error { return c.edge(root, false) }
func (c *Cursor) Last(root nvmap.PageID) error  { return c.edge(root, true) }

func (c *Cursor) edge(root nvmap.PageID, last bool) error {
	pg, err := c.begin(root)
	if err != nil {
		return err
	}
	if err := c.down(pg, c.top, last); err != nil || c.valid {
		return err
	}
	if last {
		return c.PrevLeaf()
	}
	return c.NextLeaf()
}

// down descends from the page pg of a level along first or last children.
func (c *Cursor) down(pg *Page, level int, last bool) error {
	var err error
	for ; level > 0; level-- {
		at := 0
		if last {
			at = Count(pg) - 1
		}
		if at < 0 {
			return &record.CorruptError{Off: uint64(c.steps[level].page.Off()), Structure: "index page without children"}
		}
		if pg, err = c.enter(pg, level, at); err != nil {
			return err
		}
	}
	c.steps[0].at = 0
	if last {
		c.steps[0].at = c.n - 1
	}
	c.valid = c.n > 0
	return nil
}

// Next moves to the next key. The cursor is not valid after the last one.
func (c *Cursor) Next() error {
	if c.steps[0].at++; c.steps[0].at < c.n {
		return nil
	}
	return c.NextLeaf()
}

// Prev moves to the previous key. The cursor is not valid before the first one.
func (c *Cursor) Prev() error {
	if c.steps[0].at--; c.steps[0].at >= 0 {
		return nil
	}
	return c.PrevLeaf()
}

// entered counts the leaves of a walk in one direction. A tree cannot have more leaves than the
// device has pages, so a walk in a damaged tree ends.
func (c *Cursor) entered(back bool) error {
	if c.back != back {
		c.leaves, c.back = c.ix.Visits(), back
	}
	return c.leaves.One(RootAt(c.steps[1].page))
}

func (c *Cursor) NextLeaf() error {
	for {
		if err := c.entered(false); err != nil {
			return err
		}
		c.valid = false
		level := 1
		for ; level <= c.top; level++ {
			pg := c.ix.at(c.steps[level].page)
			if at := c.steps[level].at + 1; at < Count(pg) {
				next, err := c.enter(pg, level, at)
				if err != nil {
					return err
				}
				if err := c.down(next, level-1, false); err != nil {
					return err
				}
				break
			}
		}
		if level > c.top || c.valid {
			return nil
		}
	}
}

func (c *Cursor) PrevLeaf() error {
	for {
		if err := c.entered(true); err != nil {
			return err
		}
		c.valid = false
		level := 1
		for ; level <= c.top; level++ {
			if at := c.steps[level].at - 1; at >= 0 {
				next, err := c.enter(c.ix.at(c.steps[level].page), level, at)
				if err != nil {
					return err
				}
				if err := c.down(next, level-1, true); err != nil {
					return err
				}
				break
			}
		}
		if level > c.top || c.valid {
			return nil
		}
	}
}
