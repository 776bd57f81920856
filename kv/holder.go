package kv

import (
	"slices"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// holder is something that looks at an older state of the tree: a snapshot, or
// a checkpoint. Holders form a list from the oldest to the newest.
//
// What leaves the tree is freed at once when no holder can see it, and else put
// on the dead list of the newest holder that can. When a holder goes, each
// thing on its lists passes to the next older holder that can see it too, or is
// freed: a holder pins only what it can see, and closing costs what it pinned.
//
// I9. A slot, run, page or block is free for reuse only when no holder can see
// it; point reads, which are no holders, find out by the leaf's version.
//
// A page is visible to a holder whose epoch is not below the page's birth, a
// record to a snapshot whose number is not below the record's. A checkpoint
// pins pages only: a record that replaced another is replayed over either
// checkpoint (R8).
type holder struct {
	older, newer *holder
	root         nvmap.PageID
	epoch        uint64
	number       record.Number
	records      bool // pins records too: a snapshot
	brief        bool // of a writable Tx: see pinWriter
	opened       time.Time
	keys         int64
	deadPages    []deadPage
	deadRecords  []deadRecord
	pinned       int64 // bytes that what is on the dead lists takes of the store
	gone         bool  // not on the list any more
}

type deadPage struct {
	off   nvmap.Off
	birth uint64
	bytes int64
}

type deadRecord struct {
	ref    btree.Ref
	number record.Number
	bytes  int64
}

// holders is the list, guarded by DB.publish.
type holders struct {
	oldest, newest *holder
	free           []nvmap.Off // pages and blocks that nobody sees any more
	freeRecords    []btree.Ref // records likewise
	passing        []*holder   // gone, and what is on their dead lists is to be passed on
	cut            []condemned // pages that left the tree with all that they name
	held           []btree.Ref // what waited for a checkpoint, which has flipped
	broken         rules
}

func (l *holders) push(h *holder) {
	h.older = l.newest
	if l.newest != nil {
		l.newest.newer = h
	} else {
		l.oldest = h
	}
	l.newest = h
}

// deadPage settles when a page or block that left the tree is freed. h is the
// newest holder that may see it.
func (l *holders) deadPage(h *holder, d deadPage) {
	if h != nil && h.epoch >= d.birth && l.broken&ruleI9Page == 0 {
		h.deadPages = append(h.deadPages, d)
		h.pinned += d.bytes
		return
	}
	l.free = append(l.free, d.off)
}

// sweep frees the pages and blocks that nobody sees any more.
func (l *holders) sweep(free func(nvmap.Off)) {
	for _, o := range l.free {
		free(o)
	}
	l.free = l.free[:0]
}

// newestSnapshot returns the newest holder at or before h that pins records.
func newestSnapshot(h *holder) *holder {
	for h != nil && !h.records {
		h = h.older
	}
	return h
}

func (l *holders) deadRecord(h *holder, d deadRecord) {
	if h = newestSnapshot(h); h != nil && h.number >= d.number && l.broken&ruleI9Record == 0 {
		h.deadRecords = append(h.deadRecords, d)
		h.pinned += d.bytes
		return
	}
	l.freeRecords = append(l.freeRecords, d.ref)
}

// drop takes h off the list and passes on what it pinned.
func (l *holders) drop(h *holder) {
	if h.older != nil {
		h.older.newer = h.newer
	} else {
		l.oldest = h.newer
	}
	if h.newer != nil {
		h.newer.older = h.older
	} else {
		l.newest = h.older
	}
	h.gone = true
	if len(h.deadPages)+len(h.deadRecords) > 0 {
		l.passing = append(l.passing, h)
	}
}

// passOn passes on up to most things that holders pinned which are gone, each to
// the next older one that sees it too, or to be freed. It returns how many it
// was less than most.
func (l *holders) passOn(most int) (left int) {
	for len(l.passing) > 0 && most > 0 {
		h := l.passing[0]
		older := h.older
		for older != nil && older.gone {
			older = older.older
		}
		n := min(most, len(h.deadPages))
		for _, d := range h.deadPages[:n] {
			h.pinned -= d.bytes
			l.deadPage(older, d)
		}
		h.deadPages, most = h.deadPages[n:], most-n
		n = min(most, len(h.deadRecords))
		for _, d := range h.deadRecords[:n] {
			h.pinned -= d.bytes
			l.deadRecord(older, d)
		}
		h.deadRecords, most = h.deadRecords[n:], most-n
		if len(h.deadPages)+len(h.deadRecords) == 0 {
			l.passing = slices.Delete(l.passing, 0, 1)
		}
	}
	return most
}

// pending says whether there is something to free.
func (l *holders) pending() bool {
	return len(l.cut)+len(l.passing)+len(l.held)+len(l.free)+len(l.freeRecords) > 0
}

// openHolder adds a holder of the published state. The caller holds publish.
func (db *DB) openHolder(records bool) *holder {
	h := &holder{root: db.ix.Published(), epoch: db.ix.Epoch(), number: db.visible, records: records, opened: time.Now(), keys: db.keysShown()}
	if db.dirtySince {
		db.ix.NextEpoch()
		db.dirtySince = false
	} else {
		h.epoch-- // nothing was born in this epoch yet: it may go on
	}
	db.holders.push(h)
	return h
}

// closeHolder drops a holder. What it alone pinned is freed here while the turn
// is free, and else by those who hold it next.
func (db *DB) closeHolder(h *holder) {
	db.publish.Lock()
	db.holders.drop(h)
	work := db.holders.pending()
	db.publish.Unlock()
	for work && db.turn.tryTake(true) {
		work = db.reclaimInTurn()
	}
	if work {
		db.wakeReclaimer() // who holds the turn now may be the last
	}
}

// reclaimInTurn is reclaim for who has taken the turn, and gives it up.
func (db *DB) reclaimInTurn() (more bool) {
	defer db.turn.give()
	return db.reclaimSome()
}

// reclaimMost is how much of what holders, checkpoints and ranges left is freed at a
// time in the background: about 20 us of holding everybody up.
const reclaimMost = 128

// reclaimLeast is how much of it a commit frees beside twice as much as it has
// entries: so it keeps up with what it leaves itself, and does not pay for a range
// that somebody else deleted.
const reclaimLeast = 16

// reclaim frees what nobody sees any more: what has just left the tree, and up to
// most of what holders, checkpoints and ranges left. It says whether there is
// more of that. The caller holds the turn and publish, and everything that named
// these slots has been published away.
func (db *DB) reclaim(most int) (more bool) {
	l := &db.holders
	n := min(l.passOn(db.dismantle(most)), len(l.held))
	l.sweep(db.freePage)
	for _, x := range l.freeRecords {
		db.freeLater(x)
	}
	l.freeRecords = l.freeRecords[:0]
	for _, x := range l.held[:n] {
		db.freeHeld(x)
	}
	if l.held = l.held[n:]; len(l.held) == 0 {
		l.held = nil
	}
	db.space = db.spaceNow()
	return l.pending()
}

// reclaimSome is reclaim. The caller holds the turn.
func (db *DB) reclaimSome() (more bool) {
	db.publish.Lock()
	defer db.publish.Unlock()
	return db.reclaim(reclaimMost)
}

// reclaimBeside is reclaim for who changed n entries, and leaves the rest to the
// background.
func (db *DB) reclaimBeside(n int) {
	if db.reclaim(reclaimLeast + 2*n) {
		db.wakeReclaimer()
	}
}

// pinning returns the holders on whose dead lists something may be, also those that
// are gone. The caller holds the turn, so that nothing leaves the lists.
func (db *DB) pinning() (all []*holder) {
	db.publish.Lock()
	defer db.publish.Unlock()
	for h := db.holders.oldest; h != nil; h = h.newer {
		all = append(all, h)
	}
	return append(all, db.holders.passing...)
}

// reclaimRest frees all of it, a little at a time, so that nobody waits for long.
func (db *DB) reclaimRest() {
	for more := true; more; {
		more = db.reclaimStanding()
	}
}

func (db *DB) reclaimStanding() (more bool) {
	defer db.standstill()()
	db.lockReaders()
	defer db.unlockReaders()
	return db.reclaimSome()
}

func (db *DB) wakeReclaimer() {
	select {
	case db.checkpoints.reclaim <- struct{}{}:
	default: // it is awake, or there is none
	}
}

// freeRecord frees a record's slot and its runs. I5: the slot of a run list
// that a checkpoint names stays allocated until the next one flips: a recovery
// reads the list to learn which runs the record that replaced it set free.
// I6: where the runs hold the key too, they stay allocated as long: a recovery
// cannot replay, nor set aside, a record whose key it cannot read.
// R7: nothing newer masks an expired record that was collected, so it stays as
// it is until a checkpoint frozen from now on flips.
func (db *DB) freeRecord(x btree.Ref) {
	if x&btree.RefHeld != 0 && !db.off(ruleR7) {
		db.tombs = append(db.tombs, x&^btree.RefHeld)
		return
	}
	o := btree.RefOff(x)
	if x&btree.RefSpill == 0 {
		db.account(db.r.Free(o))
		return
	}
	var rec record.Record
	if db.readRecord(o, &rec) != nil {
		return // damaged: slot and runs stay allocated, Check names them
	}
	if rec.Flags&record.FlagSpillKey != 0 && !db.off(ruleI6) {
		db.tombs = append(db.tombs, x) // I6
		return
	}
	l, err := db.runs(&rec)
	if err != nil {
		return // likewise
	}
	if rec.Number > db.frozenLast || db.off(ruleI5) {
		db.freeExtents(l.Extents)
		db.account(db.r.Free(o))
		return
	}
	db.freeExtents(l.Data())
	db.tombs = append(db.tombs, o)
	for page := range l.ListPages() { // each by itself: data are free already
		db.tombs = append(db.tombs, page)
	}
}

// account looks at what the allocator says of a slot that the medium named. An error
// is a contradiction on it: two owners of a slot, or a map that lies. The slot stays as
// it is, and the store takes no more writes.
func (db *DB) account(err error) {
	if err != nil {
		_ = db.fail(corrupt(err))
	}
}

func (db *DB) freeExtents(extents []alloc.Extent) {
	for _, e := range extents {
		db.account(db.r.FreeRun(e))
	}
}

// freeHeld frees what waited for a checkpoint: a tombstone, with the runs that
// hold its key if that is long, or a slot that I5 kept.
func (db *DB) freeHeld(x btree.Ref) {
	if x&btree.RefSpill != 0 {
		var rec record.Record
		if db.readRecord(btree.RefOff(x), &rec) == nil {
			if l, err := db.runs(&rec); err == nil {
				db.freeExtents(l.Extents)
			}
		}
	}
	db.account(db.r.Free(btree.RefOff(x)))
}

// supersede takes a record out of what the index reaches, and frees it when no
// snapshot sees it, of which newest is the newest that may. The caller holds the turn
// and publish.
func (db *DB) supersede(x btree.Ref, newest *holder) {
	db.account(db.r.ClearLive(btree.RefOff(x)))
	snapshot := newestSnapshot(newest)
	if snapshot == nil && x&btree.RefSpill == 0 {
		if db.freesLater() {
			db.freeLater(x)
		} else {
			db.account(db.r.Free(btree.RefOff(x)))
		}
		return
	}
	var rec record.Record
	if err := db.readRecord(btree.RefOff(x), &rec); err != nil {
		return // damaged: its slot stays allocated, Check names it
	}
	db.holders.deadRecord(newest, deadRecord{x, rec.Number, db.clearLive(&rec)})
}

// clearLive takes the runs of a record out of what the index reaches, and returns
// how many bytes of the store the record has with them.
func (db *DB) clearLive(rec *record.Record) int64 {
	bytes := db.slotBytes(rec.Off)
	if rec.Spilled() {
		l, _ := db.runs(rec)
		for _, e := range l.Extents {
			db.account(db.r.ClearLiveRun(e))
			bytes += e.Bytes
		}
	}
	return bytes
}

// slotBytes returns how many bytes a slot, page or block has.
func (db *DB) slotBytes(o nvmap.Off) int64 {
	d, _ := db.r.Describe(o)
	return int64(d.SlotBytes)
}

// readRecord decodes and verifies the record at o. Its slices alias the medium.
func (db *DB) readRecord(o nvmap.Off, rec *record.Record) error {
	rec.Off = o
	d, ok := db.r.Describe(o)
	if !ok || d.Kind != alloc.KindRecord {
		return &CorruptError{Off: uint64(o), Structure: "record offset"}
	}
	b := db.bytesAt(o, d.SlotBytes)
	if b == nil || !rec.Parse(b) || !rec.Sealed(b, db.seed, d.Carve, o) {
		return &CorruptError{Off: uint64(o), Structure: "record"}
	}
	return nil
}

// readNamed is readRecord of the record that an entry of the index names, which says
// of it that it is a put, whether it has runs, and whether it expires.
func (db *DB) readNamed(x btree.Ref, rec *record.Record) error {
	err := db.readRecord(btree.RefOff(x), rec)
	if err == nil && !isOf(rec, x) {
		err = &CorruptError{Off: uint64(btree.RefOff(x)), Structure: "record, of which the index says otherwise,"}
	}
	return err
}

// isOf says whether the record is such as x says.
func isOf(r *record.Record, x btree.Ref) bool {
	return r.Kind == record.KindPut && r.Spilled() == (x&btree.RefSpill != 0) && (r.Expiry != 0) == (x&btree.RefTTL != 0)
}

// readPlain is readRecord for what most records are; false says nothing of the
// others.
func (db *DB) readPlain(o nvmap.Off, p *record.Plain) bool {
	c := db.r.RecordAt(o)
	b := db.bytesAt(o, c.Bytes)
	return b != nil && p.Parse(b, db.seed, c.Carve, o)
}

// readAny reads a record that has nothing in runs, and when it expires.
func (db *DB) readAny(x btree.Ref, p *record.Plain) (expiry int64, err error) {
	if x&btree.RefTTL == 0 && db.readPlain(btree.RefOff(x), p) {
		return 0, nil
	}
	var rec record.Record
	err = db.readNamed(x, &rec)
	p.Key, p.Value = rec.Key, rec.Value
	return rec.Expiry, err
}
