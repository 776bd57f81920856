package kv

import (
	"bytes"
	"context"
	"fmt"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// CheckIssue is a finding of Check.
type CheckIssue struct {
	Off       uint64 // byte offset on the device
	Structure string // "record", "index page", "slab", ...
	Key       []byte // the key concerned, if known
	Msg       string
}

func (i CheckIssue) String() string {
	if i.Key == nil {
		return fmt.Sprintf("%s at %#x: %s", i.Structure, i.Off, i.Msg)
	}
	return fmt.Sprintf("%s at %#x, key %q: %s", i.Structure, i.Off, clip(i.Key), i.Msg)
}

// Check verifies the store while it is in use. Beside readers and writers it reads every record of
// a snapshot and verifies checksum and key, and compares the hash table in DRAM with the index. Then,
// while writers wait, it verifies the structure of the index, that every slot has exactly one owner
// and none is lost, and the bookkeeping of the allocator. It calls report for each finding, with no
// lock held. Findings are no error; the error says why Check could not continue.
func (db *DB) Check(ctx context.Context, report func(CheckIssue)) (err error) {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	if report == nil {
		return errNil
	}
	ctx = orBackground(ctx)
	issue := report
	report = func(i CheckIssue) {
		defer db.called.begin()()
		issue(i)
	}
	defer db.guarded("check", panicOnFault(true), &err)
	for _, d := range db.recovered.damaged {
		report(CheckIssue{d.Off, d.Structure, d.Key, "met by recovery"})
	}
	c := &checker{db: db, ctx: ctx, report: report, unread: map[btree.Ref]int{}, indexReader: indexReader{gaps: map[nvmap.Off]bool{}}}
	if err := c.records(); err != nil {
		return err
	}
	if err := c.hashEntries(); err != nil {
		return err
	}
	return c.reportLater(c.ownership)
}

type checker struct {
	db     *DB
	ctx    context.Context
	report func(CheckIssue)
	seen   map[nvmap.Off]struct{} // slots that the index reaches
	unread map[btree.Ref]int      // entries of the hash table, by bucket, whose records cannot be read
	indexReader
}

func (c *checker) issue(o nvmap.Off, what string, key []byte, format string, args ...any) {
	c.report(CheckIssue{uint64(o), what, bytes.Clone(key), fmt.Sprintf(format, args...)})
}

// records reads every record of a snapshot.
func (c *checker) records() error {
	db := c.db
	by := db.openedBy()
	db.publish.Lock()
	h := db.openHolder(true)
	h.by = by
	db.publish.Unlock()
	defer db.closeHolder(h)
	root := btree.RootAt(h.root)
	c.left, c.bytes = db.ix.Visits(), db.bytesLeft()
	if err := c.subtree(root); err != nil {
		return c.gap(root, err)
	}
	if len(c.gaps) == 0 && c.count != h.keys {
		c.issue(h.root.Off(), "index", nil, "%d keys, counted %d", h.keys, c.count)
	}
	return nil
}

// checkChunk is how many records, all of one leaf, are checked in one section.
const checkChunk = 64

// inSection runs fn in a section.
func (c *checker) inSection(fn func() error) error {
	c.db.readRoom()
	return c.reportLater(func() error {
		defer c.db.pages.Begin().Leave()
		return fn()
	})
}

// reportLater runs fn, which takes a lock or a section, and reports its findings afterwards, since
// report may make any call.
func (c *checker) reportLater(fn func() error) error {
	report := c.report
	var found []CheckIssue
	c.report = func(i CheckIssue) { found = append(found, i) }
	defer func() {
		c.report = report
		for _, i := range found {
			report(i)
		}
	}()
	return fn()
}

// record checks the record of a key. The error says why it could not be read.
func (c *checker) record(x btree.Ref, key []byte) (err error) {
	var rec record.Record
	db, o := c.db, btree.RefOff(x)
	defer db.guarded("check", panicOnFault(true), &err)
	if err := db.readRecord(o, &rec); err != nil {
		c.issue(o, "record", key, "checksum or header does not match")
		return nil
	}
	if rec.Kind != record.KindPut {
		c.issue(o, "record", key, "kind %d, not a value", rec.Kind)
	}
	if rec.Spilled() != (x&btree.RefSpill != 0) {
		c.issue(o, "record", key, "index and record disagree on where the value is")
	}
	if (rec.Expiry != 0) != (x&btree.RefTTL != 0) {
		c.issue(o, "record", key, "index and record disagree on whether it expires")
	}
	if rec.Spilled() && c.bytes.of(&rec) != nil {
		c.issue(o, "runs of a record", key, "shared with other records: all runs together exceed the device")
		return nil
	}
	if rec.Spilled() && !db.runsWhole(&rec) {
		c.issue(o, "runs of a record", key, "checksum does not match")
		return nil
	}
	k := rec.Key
	if rec.Flags&record.FlagSpillKey != 0 {
		k = db.keyInRuns(&rec)
	}
	if !bytes.Equal(k, key) {
		c.issue(o, "record", key, "holds key %q", clip(k))
	}
	return nil
}

// ownership compares the slots that the index reaches with those that the allocator calls live and
// used. Writers wait for it; snapshots are opened and closed meanwhile.
func (c *checker) ownership() error {
	db := c.db
	defer db.standstill()()
	for db.reclaimSome() { // free everything that waits, so that it counts as used by nothing
	}
	c.seen = map[nvmap.Off]struct{}{}
	around := len(c.gaps) > 0
	err := db.reach(db.ix.Root(), func(ch btree.Child, err error) error { around = true; return c.gap(ch, err) }, c.own, func(e alloc.Extent) error {
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
		return err
	}
	if around {
		c.issue(db.ix.Root().Off(), "slabs", nil, "lost slots were not looked at, because a part of the index cannot be read")
	} else {
		c.held()
		c.hashUnread()
	}
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

// held collects the slots that are used without being reached by the index, and reports other slots
// that are live or used: these are leaked.
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
	db.ix.EachReserved(hold)
	for _, x := range db.checkpoints.freezing.Load().list() {
		c.holdRecord(x, hold)
	}
	for _, h := range db.pinning() {
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

func (c *checker) holdRecord(x btree.Ref, hold func(nvmap.Off)) {
	hold(btree.RefOff(x))
	if x&btree.RefSpill == 0 {
		return
	}
	var rec record.Record
	if c.db.readRecord(btree.RefOff(x), &rec) != nil {
		return
	}
	l, _ := c.db.runs(&rec)
	for o := range record.PagesIn(l.Extents) {
		hold(o)
	}
}
