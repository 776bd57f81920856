package kv

import (
	"bytes"
	"context"
	"fmt"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// CheckIssue is something that Check found wrong.
type CheckIssue struct {
	Off       uint64 // byte offset on the device
	Structure string // "record", "index page", "slab", ...
	Key       []byte // the key concerned, where one is known
	Msg       string
}

func (i CheckIssue) String() string {
	if i.Key == nil {
		return fmt.Sprintf("%s at %#x: %s", i.Structure, i.Off, i.Msg)
	}
	return fmt.Sprintf("%s at %#x, key %q: %s", i.Structure, i.Off, clip(i.Key), i.Msg)
}

// Check verifies the store while it is in use: every record with its checksum
// and its key, in a snapshot, beside readers and writers; then, holding
// writers up, the index's structure, that every slot is owned exactly once and
// none is lost, and the allocator's books. It calls report for each finding.
// The error says why it could not go on; findings are no error.
func (db *DB) Check(ctx context.Context, report func(CheckIssue)) (err error) {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	defer db.guarded("check", panicOnFault(true), &err)
	for _, d := range db.recovered.damaged {
		report(CheckIssue{d.Off, d.Structure, d.Key, "met by recovery"})
	}
	c := &checker{db: db, ctx: ctx, report: report}
	if err := c.records(); err != nil {
		return err
	}
	return c.ownership()
}

type checker struct {
	db     *DB
	ctx    context.Context
	report func(CheckIssue)
	seen   map[nvmap.Off]struct{} // slots that the index reaches
}

func (c *checker) issue(o nvmap.Off, what string, key []byte, format string, args ...any) {
	c.report(CheckIssue{uint64(o), what, bytes.Clone(key), fmt.Sprintf(format, args...)})
}

// records reads every record that a snapshot sees.
func (c *checker) records() error {
	db := c.db
	db.publish.Lock()
	h := db.openHolder(true)
	db.publish.Unlock()
	defer db.closeHolder(h)
	cur := cursor{ix: &db.ix, warm: true}
	if err := c.inSection(func() error { return cur.first(h.root) }); err != nil {
		return c.broken(err)
	}
	var before []byte
	count := int64(0)
	for cur.valid {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		err := c.inSection(func() error {
			cur.renew()
			cur.askRecords(checkChunk)
			for n := 0; cur.valid && n < checkChunk && (n == 0 || cur.at() > 0); n++ {
				key, _, err := db.ix.fullKey(cur.leaf, pageCount(cur.leaf), cur.at())
				if err != nil {
					return err
				}
				if count++; count > 1 && bytes.Compare(before, key) >= 0 {
					c.issue(cur.steps[0].page.Off(), "index page", key, "out of order behind %q", clip(before))
				}
				before = key
				c.record(cur.ref(), key)
				if err := cur.next(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return c.broken(err)
		}
	}
	if count != h.keys {
		c.issue(h.root.Off(), "index", nil, "%d keys, counted %d", count, h.keys)
	}
	return nil
}

// checkChunk is how many records are checked in one section, all of one leaf.
const checkChunk = 64

// inSection runs fn in a section and reports what it found after its end: report
// may do what it likes.
func (c *checker) inSection(fn func() error) error {
	c.db.readRoom()
	s := c.db.pages.begin()
	report := c.report
	var found []CheckIssue
	c.report = func(i CheckIssue) { found = append(found, i) }
	defer func() {
		s.leave()
		c.report = report
		for _, i := range found {
			report(i)
		}
	}()
	return fn()
}

// broken reports a part of the index that cannot be read; what lies below it
// cannot be checked.
func (c *checker) broken(err error) error {
	if e, ok := err.(*CorruptError); ok {
		c.issue(nvmap.Off(e.Off), e.Structure, e.Key, "cannot be read, nor what is below it")
		return nil
	}
	return err
}

func (c *checker) record(x ref, key []byte) {
	var rec record
	db, o := c.db, refOff(x)
	if err := db.readRecord(o, &rec); err != nil {
		c.issue(o, "record", key, "checksum or header does not match")
		return
	}
	if rec.kind != kindPut {
		c.issue(o, "record", key, "kind %d, not a value", rec.kind)
	}
	if rec.spilled() != (x&refSpill != 0) {
		c.issue(o, "record", key, "index and record disagree on where the value is")
	}
	if (rec.expiry != 0) != (x&refTTL != 0) {
		c.issue(o, "record", key, "index and record disagree on whether it expires")
	}
	if rec.spilled() && !db.runsWhole(&rec) {
		c.issue(o, "runs of a record", key, "checksum does not match")
		return
	}
	k := rec.key
	if rec.flags&flagSpillKey != 0 {
		k, _, _ = db.readRuns(&rec, nil)
	}
	if !bytes.Equal(k, key) {
		c.issue(o, "record", key, "holds key %q", clip(k))
	}
}

// ownership compares what the index reaches with what the allocator calls live
// and used.
func (c *checker) ownership() error {
	db := c.db
	defer db.standstill()()
	db.publish.Lock()
	defer db.publish.Unlock()
	for db.reclaim() { // all of it: nothing is held back then
	}
	c.seen = map[nvmap.Off]struct{}{}
	err := db.reach(db.ix.root, c.own, func(e alloc.Extent) error {
		if err := db.r.CheckExtent(e); err != nil {
			c.issue(e.Off, "run", nil, "%v", err)
			return nil
		}
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if err := c.own(o, alloc.KindRun); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return c.broken(err)
	}
	c.held()
	db.r.Check(func(o nvmap.Off, msg string) { c.issue(o, "slab", nil, "%s", msg) })
	return nil
}

func (c *checker) own(o nvmap.Off, k alloc.Kind) error {
	if _, twice := c.seen[o]; twice {
		c.issue(o, k.String(), nil, "owned twice")
	}
	c.seen[o] = struct{}{}
	if _, _, ok := c.db.r.Carve(o, k); !ok {
		c.issue(o, k.String(), nil, "lies in no slab of that kind")
	} else if !c.db.r.IsLive(o) {
		c.issue(o, k.String(), nil, "reached by the index but free")
	}
	return c.ctx.Err()
}

// held adds everything that is used without being reached, and reports slots
// that are live or used for no reason: leaks.
func (c *checker) held() {
	db := c.db
	held := map[nvmap.Off]struct{}{}
	hold := func(o nvmap.Off) { held[o] = struct{}{} }
	for _, x := range db.tombs {
		c.holdRecord(x, hold)
	}
	hold(db.group.closing)
	for _, w := range db.group.waiting {
		for _, x := range w.refs {
			c.holdRecord(x, hold)
		}
		for _, o := range w.slots {
			hold(o)
		}
	}
	for _, p := range db.ix.pages {
		hold(p.Off())
	}
	for _, o := range db.ix.blocks {
		hold(o)
	}
	for _, x := range db.checkpoints.freezing.Load().list() {
		c.holdRecord(x, hold)
	}
	for h := db.holders.oldest; h != nil; h = h.newer {
		for _, d := range h.deadPages {
			hold(d.off)
		}
		for _, d := range h.deadRecords {
			c.holdRecord(d.ref, hold)
		}
	}
	db.r.EachUsed(func(o nvmap.Off, k alloc.Kind, live bool) {
		_, reached := c.seen[o]
		_, isHeld := held[o]
		switch {
		case live && !reached:
			c.issue(o, k.String(), nil, "marked live but not reached by the index")
		case !live && !isHeld:
			c.issue(o, k.String(), nil, "leaked: used, and nothing holds it")
		}
	})
}

func (c *checker) holdRecord(x ref, hold func(nvmap.Off)) {
	hold(refOff(x))
	if x&refSpill == 0 {
		return
	}
	var rec record
	if c.db.readRecord(refOff(x), &rec) != nil {
		return
	}
	_, list := rec.extents()
	for _, e := range list {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			hold(o)
		}
	}
}
