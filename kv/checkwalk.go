package kv

import (
	"bytes"
	"errors"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// indexReader is the part of a checker that walks the index of a snapshot. It passes over pages
// that cannot be read.
type indexReader struct {
	before []byte             // the previous key
	count  int64              // of keys
	gaps   map[nvmap.Off]bool // pages that could not be read and were reported
	left   btree.Visits
	bytes  bytesLeft
}

// subtree checks the records below an index page. It returns an error if the page itself cannot be
// read; it reports problems below the page.
func (c *checker) subtree(ch btree.Child) error {
	pg, err := c.readPage(ch)
	if err != nil {
		return err
	}
	if btree.Level(pg) == 0 {
		return c.leaf(ch)
	}
	for i, n := 0, btree.Count(pg); i < n; i++ {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if i%btree.ChildrenMost == 0 && !c.db.ix.Mapped() {
			c.db.readRoom()
			c.db.ix.AskChildren(pg, i, 1, btree.ChildrenMost)
		}
		next := btree.ChildAt(pg, n, i)
		if err := c.subtree(next); err != nil {
			if err := c.gap(next, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPage returns a copy of a page.
func (c *checker) readPage(ch btree.Child) (pg *btree.Page, err error) {
	if err := c.left.One(ch); err != nil {
		return nil, err
	}
	ix := &c.db.ix
	defer c.db.guarded("check", panicOnFault(true), &err)
	s := c.db.pages.Begin()
	defer s.Leave()
	found, err := ix.Load(ch)
	if err != nil {
		return nil, err
	}
	pg = new(btree.Page)
	*pg = *found
	return pg, nil
}

// gap reports a part of the index that cannot be read, once. Pages below it are not checked. It
// returns any other error, which ends the check.
func (c *checker) gap(ch btree.Child, err error) error {
	at, what := ch.Page.Off(), "index page"
	var bad *CorruptError
	var fault *nvmap.FaultError
	switch {
	case errors.As(err, &bad):
		at, what = nvmap.Off(bad.Off), bad.Structure
	case errors.As(err, &fault):
	default:
		return err
	}
	if !c.gaps[at] {
		c.gaps[at] = true
		c.issue(at, what, nil, "cannot be read; the keys below it are not checked")
	}
	return nil
}

// leaf checks the records of a leaf, a part of them in each section.
func (c *checker) leaf(ch btree.Child) error {
	for from := 0; from >= 0; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		var err error
		if from, err = c.leafPart(ch, from); err != nil {
			return err
		}
	}
	return nil
}

// leafPart checks the entries of a leaf from one on. It returns the entry at which to continue, or
// -1 after the last.
func (c *checker) leafPart(ch btree.Child, from int) (next int, err error) {
	defer c.db.guarded("check", panicOnFault(true), &err)
	err = c.inSection(func() error {
		ix := &c.db.ix
		pg, err := ix.Load(ch)
		if err != nil {
			return err
		}
		vals, n := ix.Vals(ch.Vals), min(btree.Count(pg), btree.LeafFanout)
		next = min(n, from+checkChunk)
		c.askRecords(vals, from, next)
		for i := from; i < next; i++ {
			c.entry(ch, pg, vals, i)
		}
		if next == n {
			next = -1
		}
		return nil
	})
	return next, err
}

// askRecords prefetches the records of entries, or reads them together.
func (c *checker) askRecords(vals *btree.Vals, from, to int) {
	ix := &c.db.ix
	var ps []nvmap.PageID
	for i := from; i < to; i++ {
		if o := btree.RefOff(btree.ValAt(vals, i)); ix.Mapped() {
			ix.AskRecord(o)
		} else {
			ps = ix.RecordPages(ps, o)
		}
	}
	if len(ps) > 0 {
		c.db.m.ReadAhead(ps)
	}
}

// entry checks an entry of a leaf and its record.
func (c *checker) entry(ch btree.Child, pg *btree.Page, vals *btree.Vals, i int) {
	c.count++
	key, _, err := c.db.ix.KeyOf(pg, btree.Count(pg), i)
	if err != nil {
		at, what := ch.Page.Off(), "key of an index page"
		if bad, ok := err.(*CorruptError); ok {
			at, what = nvmap.Off(bad.Off), bad.Structure
		}
		c.issue(at, what, nil, "cannot be read, and neither can its key")
		return
	}
	if c.count > 1 && bytes.Compare(c.before, key) >= 0 {
		c.issue(ch.Page.Off(), "index page", key, "out of order behind %q", clip(c.before))
	}
	c.before = key
	c.hashKnows(key)
	if err := c.record(btree.ValAt(vals, i), key); err != nil {
		c.issue(btree.RefOff(btree.ValAt(vals, i)), "record", key, "cannot be read: %v", err)
	}
}
