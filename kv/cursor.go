package kv

import "nvkv/nvmap"

// cursor walks the leaves below a root whose pages do not change: that of a
// snapshot, or any root while the turn is held. It keeps the way down, because
// copying pages rules out links between leaves.
type cursor struct {
	ix    *index
	steps [maxHeight]step // steps[l].at: child taken at level l; [0]: entry
	top   int             // level of the root
	leaf  *page
	vals  *vblock
	block uint64 // number of vals
	n     int    // entries in leaf
	valid bool
	warm  bool // prefetch the records of each leaf that is entered
	wide  int  // leaves that askBeside had read together last
}

func (c *cursor) at() int  { return c.steps[0].at }
func (c *cursor) ref() ref { return valAt(c.vals, c.steps[0].at) }

// key returns the key that the cursor stands on.
func (c *cursor) key() ([]byte, error) {
	key, _, err := c.ix.fullKey(c.leaf, pageCount(c.leaf), c.steps[0].at)
	return key, err
}

// renew makes a cursor that was used in an earlier section good for this one:
// frames that it looked at may have gone since. The pages are the same.
func (c *cursor) renew() {
	if c.leaf == nil {
		return
	}
	m := c.ix.m
	if m.InFrame(c.leaf[:]) {
		c.leaf = c.ix.at(c.steps[0].page)
	}
	if m.InFrame(c.vals[:]) {
		c.vals = c.ix.vals(c.block)
	}
}

// begin loads the root.
func (c *cursor) begin(root nvmap.PageID) (*page, error) {
	c.valid = false
	pg, err := c.ix.load(child{page: root})
	if err != nil {
		return nil, err
	}
	c.top = pageLevel(pg)
	if c.top < 1 || c.top >= maxHeight {
		return nil, &CorruptError{Off: uint64(root.Off()), Structure: "index root"}
	}
	c.steps[c.top].page = root
	return pg, nil
}

// enter loads the child that entry at of the inner page pg of a level names.
func (c *cursor) enter(pg *page, level, at int) (*page, error) {
	c.steps[level].at = at
	ch := childAt(pg, pageCount(pg), at)
	next, err := c.ix.load(ch)
	if err != nil {
		return nil, err
	}
	if pageLevel(next) != level-1 || (level == 1) != (ch.vals != 0) {
		return nil, &CorruptError{Off: uint64(ch.page.Off()), Structure: "index page level"}
	}
	c.steps[level-1].page = ch.page
	if level == 1 {
		c.leaf, c.vals, c.block, c.n = next, c.ix.vals(ch.vals), ch.vals, min(pageCount(next), leafFanout)
		if c.warm {
			c.prefetch()
		}
	}
	return next, nil
}

// prefetch asks for the records of the leaf at once: in random order on the
// medium, they then cost one wait together instead of one each.
func (c *cursor) prefetch() {
	if !c.ix.mapped {
		c.askBeside(1)
		return // the records of a leaf are more than are read at once: see askRecords
	}
	for i := range c.n {
		c.ix.askRecord(refOff(valAt(c.vals, i)))
	}
}

// askRecords has the next records of the leaf, at most so many, read together where
// the device is not read in place.
func (c *cursor) askRecords(most int) {
	if c.ix.mapped || !c.valid {
		return
	}
	ps := make([]nvmap.PageID, 0, 2*most)
	for i := c.at(); i < min(c.n, c.at()+most); i++ {
		ps = c.ix.recordPages(ps, refOff(valAt(c.vals, i)))
	}
	c.ix.m.ReadAhead(ps)
}

// askBeside asks for the leaf that follows in a direction, where both have the
// same parent. Where the device is not read in place it asks for several together,
// the longer the walk the more.
func (c *cursor) askBeside(step int) {
	pg := c.ix.at(c.steps[1].page)
	n, at := pageCount(pg), c.steps[1].at+step
	if at < 0 || at >= n {
		return
	}
	next := childAt(pg, n, at)
	switch {
	case !c.ix.within(next):
	case c.ix.mapped:
		c.ix.prefetchWalk(next)
	case c.ix.missing(next):
		c.wide = min(2*c.wide+1, childrenMost)
		c.ix.askChildren(pg, at, step, c.wide)
	}
}

// seek stands on the first key that is not below key, and says whether it is
// equal. The cursor is not valid where all keys are below.
func (c *cursor) seek(root nvmap.PageID, key []byte) (bool, error) {
	pg, err := c.begin(root)
	for level := c.top; err == nil && level > 0; level-- {
		var i int
		if i, err = c.ix.childIndex(pg, key); err == nil {
			pg, err = c.enter(pg, level, i)
		}
	}
	if err != nil {
		return false, err
	}
	at, equal, err := c.ix.search(pg, key)
	if err != nil {
		return false, err
	}
	c.steps[0].at = at
	c.valid = at < c.n
	if !c.valid {
		return false, c.nextLeaf()
	}
	return equal, nil
}

// first stands on the first key, last on the last one.
func (c *cursor) first(root nvmap.PageID) error { return c.edge(root, false) }
func (c *cursor) last(root nvmap.PageID) error  { return c.edge(root, true) }

func (c *cursor) edge(root nvmap.PageID, last bool) error {
	pg, err := c.begin(root)
	if err != nil {
		return err
	}
	if err := c.down(pg, c.top, last); err != nil || c.valid {
		return err
	}
	if last {
		return c.prevLeaf()
	}
	return c.nextLeaf()
}

// down descends from the page of a level along its first or last children.
func (c *cursor) down(pg *page, level int, last bool) error {
	var err error
	for ; level > 0; level-- {
		at := 0
		if last {
			at = pageCount(pg) - 1
		}
		if at < 0 {
			return &CorruptError{Off: uint64(c.steps[level].page.Off()), Structure: "index page without children"}
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

// next moves to the next key; the cursor is not valid behind the last.
func (c *cursor) next() error {
	if c.steps[0].at++; c.steps[0].at < c.n {
		return nil
	}
	return c.nextLeaf()
}

// prev moves to the key before; the cursor is not valid before the first.
func (c *cursor) prev() error {
	if c.steps[0].at--; c.steps[0].at >= 0 {
		return nil
	}
	return c.prevLeaf()
}

func (c *cursor) nextLeaf() error {
	for {
		c.valid = false
		level := 1
		for ; level <= c.top; level++ {
			pg := c.ix.at(c.steps[level].page)
			if at := c.steps[level].at + 1; at < pageCount(pg) {
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

func (c *cursor) prevLeaf() error {
	for {
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
