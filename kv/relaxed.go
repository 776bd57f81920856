package kv

import (
	"fmt"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Relaxed durability works in groups. For a recovery, all commits since the last fence are one
// transaction: their records have one number, and their ordinals continue from commit to commit. A
// closing record, written before the fence, holds the count. A group without its closing record is
// void.
//
// A commit of a group is visible at once, so its records may be superseded before the group is
// fenced. Therefore R2 requires more than without groups: the records of a group stay allocated
// until the next group is fenced. Otherwise a recovery would count too few records of a durable
// group. So every record that is superseded while a group is open waits for two fences. Some of
// them belong to older groups and could be freed earlier, but only the medium tells which.

// Durability says when a write is durable.
type Durability int

const (
	// Sync makes every write durable before its call returns.
	Sync Durability = iota
	// Relaxed makes writes visible at once and durable together: after 4 MiB, after 100 ms, with a
	// checkpoint, and by DB.Sync. A crash loses the newest writes from some point on, never one
	// without all later ones.
	Relaxed
)

const (
	defaultGroupBytes = 4 << 20
	groupDelay        = 100 * time.Millisecond
)

// group is the open group of a store in relaxed mode. The turn guards it.
type group struct {
	records uint32    // written; 0: no group is open
	bytes   int64     // of them
	closing nvmap.Off // slot for the closing record
	waiting []superseded
	last    record.Number // of the newest group; 0: there was none
	other   bool          // the durability of the current commit differs from Options
	used    atomic.Bool   // groups may be open; atomic, because Sync asks without the turn
	timer   *time.Timer   // runs while a group is open; nil in tests that close groups themselves
}

// superseded lists the records that left the index while the group with this number was open.
type superseded struct {
	number record.Number
	refs   []btree.Ref
	slots  []nvmap.Off
}

func (db *DB) relaxed() bool { return db.opt.Durability == Relaxed }

// grouped says whether records that are written now belong to a group. The caller holds the turn.
func (db *DB) grouped() bool { return db.relaxed() != db.group.other && !db.opt.unfinished }

// freesLater says whether a record that leaves the index now waits for a fence: the newest
// transaction is a group, open or closed, so a recovery still counts its records (R2).
func (db *DB) freesLater() bool {
	newest := db.group.last != 0 && db.group.last == db.visible
	return db.grouped() || newest && !db.off(ruleR2)
}

// SetDurability sets when the changes of a writable Tx become durable, in place of
// Options.Durability. Sync: when Commit returns, together with everything committed before, and no
// reader sees them earlier. Relaxed: with the next fence, see [Relaxed]. The error is ErrReadOnly
// for a read-only Tx, and ErrTxClosed after the end of the Tx.
func (tx *Tx) SetDurability(d Durability) error {
	s, err := tx.enterWrite()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	if d != Sync && d != Relaxed {
		return fmt.Errorf("nvkv: durability %d is neither Sync nor Relaxed", d)
	}
	tx.w.other = d != tx.db.opt.Durability
	return nil
}

// endGroupBefore closes the open group, with a fence, before a commit that is not part of a group.
// Keys that this commit deletes may be absent only because of the group (see dropAbsent).
func (db *DB) endGroupBefore() error {
	if db.grouped() {
		return nil
	}
	return db.closeGroup()
}

// openGroup reserves the slot for the closing record of a group, if none is open. So closing the
// group cannot meet a full store.
func (db *DB) openGroup(urgent bool) error {
	g := &db.group
	if !db.grouped() || g.closing != 0 {
		return nil
	}
	g.used.Store(true)
	class, _ := db.r.ClassFor(record.HeaderBytes + record.MultiBytes)
	off, err := db.r.AllocRecord(class, urgent)
	if err != nil {
		return err
	}
	g.closing = off
	return nil
}

// endCommit makes the records of a commit durable. In relaxed mode it only lets readers see them;
// the end of the group makes them durable. The publication follows it directly.
func (db *DB) endCommit() error {
	switch {
	case db.off(ruleI3):
		return nil
	case db.grouped():
		return db.m.Show()
	}
	return db.m.Fence()
}

// countGroup adds the records of a commit, which are published, to the open group, and closes the
// group if it is large.
func (db *DB) countGroup(es []entry) error {
	g := &db.group
	if !db.grouped() {
		if len(g.waiting) > 0 {
			db.release(db.visible)
		}
		return nil
	}
	g.last = db.visible
	if g.records == 0 && g.timer != nil {
		g.timer.Reset(groupDelay)
	}
	g.records += uint32(len(es))
	for i := range es {
		g.bytes += int64(es[i].rec)
		for _, x := range es[i].extents {
			g.bytes += x.Bytes
		}
	}
	if g.bytes < db.opt.groupBytes {
		return nil
	}
	return db.closeGroup()
}

// closeGroup makes the open group durable, with one fence. The caller has the turn or a standstill.
func (db *DB) closeGroup() error {
	g := &db.group
	if g.records == 0 {
		return nil
	}
	if f := db.failure.Load(); f != nil {
		return *f
	}
	if !db.off(ruleI11) {
		if err := db.storeClosing(); err != nil {
			return db.fail(err)
		}
	}
	if err := db.m.Fence(); err != nil {
		return db.fail(err)
	}
	wait := g.waitFor(db.visible)
	wait.slots = append(wait.slots, g.closing)
	g.records, g.bytes, g.closing = 0, 0, 0
	db.release(db.visible)
	return nil
}

// storeClosing writes the closing record of the open group.
func (db *DB) storeClosing() error {
	g := &db.group
	if err := db.r.Touch(g.closing); err != nil {
		return err
	}
	var img [record.HeaderBytes + record.MultiBytes + 4]byte // whole words
	rec := record.Record{Number: db.visible, Kind: record.KindClose, Flags: record.FlagMulti, Ordinal: g.records, Count: g.records + 1}
	rec.PutHeader(img[:])
	carve, _, _ := db.r.Carve(g.closing, alloc.KindRecord)
	rec.Seal(img[:], record.BodySum(nil), db.seed, carve, g.closing)
	return db.m.Write(g.closing, img[:])
}

// waitFor returns the list of the records that leave the index while group n is open.
func (g *group) waitFor(n record.Number) *superseded {
	if k := len(g.waiting); k == 0 || g.waiting[k-1].number != n {
		g.waiting = append(g.waiting, superseded{number: n})
	}
	return &g.waiting[len(g.waiting)-1]
}

// release frees the records that left the index before the group that was fenced last.
func (db *DB) release(fenced record.Number) {
	if db.off(ruleR2) {
		fenced++
	}
	db.releaseBelow(fenced)
}

// releaseBelow frees the records that left the index in groups below n.
func (db *DB) releaseBelow(n record.Number) {
	g := &db.group
	k := 0
	for ; k < len(g.waiting) && g.waiting[k].number < n; k++ {
		for _, x := range g.waiting[k].refs {
			db.freeRecord(x)
		}
		for _, o := range g.waiting[k].slots {
			db.account(db.r.Free(o))
		}
	}
	g.waiting = append(g.waiting[:0], g.waiting[k:]...)
}

// freeLater frees a record that left the index, as soon as its slot may be reused.
func (db *DB) freeLater(x btree.Ref) {
	if !db.freesLater() {
		db.freeRecord(x)
		return
	}
	wait := db.group.waitFor(db.visible)
	wait.refs = append(wait.refs, x)
}

// Sync makes everything written before the call durable. With Durability Sync every write is
// durable when it returns, and Sync only reports whether the store has failed.
func (db *DB) Sync() (err error) {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	if f := db.failure.Load(); f != nil {
		return *f
	}
	if !db.group.used.Load() || db.opt.ReadOnly {
		return nil
	}
	return db.syncGroup()
}

func (db *DB) syncGroup() (err error) {
	defer db.guarded("sync", panicOnFault(true), &err)
	end := db.standstill()
	defer end()
	db.lockReaders()
	defer db.unlockReaders()
	return db.closeGroup()
}
