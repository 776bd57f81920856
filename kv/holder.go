package kv

import (
	"slices"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// holder is a reader of an older state of the tree: a snapshot or a checkpoint. Holders form a list
// from the oldest to the newest.
//
// A thing that leaves the tree is freed at once if no holder can see it. Otherwise it goes on the
// dead list of the newest holder that can see it. When a holder is closed, each thing on its lists
// passes to the next older holder that can see it, or is freed. So a holder pins only the things
// that it can see, and the cost of closing it is in proportion to them.
//
// I9. A slot, run, page or block is reused only when no holder can see it. Point reads are not
// holders; they detect reuse by the version of the leaf.
//
// A holder can see a page if its epoch is not below the page's birth. A snapshot can see a record
// if its number is not below the record's. A checkpoint pins pages only: a record that replaced
// another one is newer than the checkpoint, and a recovery replays it (R8).
type holder struct {
	older, newer *holder
	root         nvmap.PageID
	epoch        uint64
	number       record.Number
	records      bool // pins records too: a snapshot
	brief        bool // of a writable Tx, see pinWriter
	opened       time.Time
	keys         int64
	deadPages    []deadPage
	deadRecords  []deadRecord
	began        uint64 // the epoch of the index after the holder was opened
	pinned       int64  // bytes on the medium that the dead lists pin
	gone         bool   // no longer on the list
	by           *opener
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

// holders is the list of holders. DB.publish guards it.
type holders struct {
	oldest, newest *holder
	free           []nvmap.Off // pages and blocks to be freed
	freeRecords    []btree.Ref // records to be freed
	passing        []*holder   // closed holders whose dead lists are to be passed on
	cut            []condemned // pages that left the tree with everything below them
	held           []btree.Ref // tombstones and slots whose checkpoint has flipped
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

// deadPage decides when a page or block that left the tree is freed. h is the newest holder that
// may see it.
func (l *holders) deadPage(h *holder, d deadPage) {
	if h != nil && h.epoch >= d.birth && !l.broken.has(ruleI9Page) {
		h.deadPages = append(h.deadPages, d)
		h.pinned += d.bytes
		return
	}
	l.free = append(l.free, d.off)
}

// sweep frees the pages and blocks that no holder sees.
func (l *holders) sweep(free func(nvmap.Off)) {
	for _, o := range l.free {
		free(o)
	}
	l.free = l.free[:0]
}

// newestSnapshot returns the newest snapshot that is not newer than h.
func newestSnapshot(h *holder) *holder {
	for h != nil && !h.records {
		h = h.older
	}
	return h
}

func (l *holders) deadRecord(h *holder, d deadRecord) {
	if h = newestSnapshot(h); h != nil && h.number >= d.number && !l.broken.has(ruleI9Record) {
		h.deadRecords = append(h.deadRecords, d)
		h.pinned += d.bytes
		return
	}
	l.freeRecords = append(l.freeRecords, d.ref)
}

// drop takes h off the list and lets its dead lists be passed on.
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

// passOn passes on at most most things of closed holders, each to the next older holder that sees
// it, or to be freed. It returns how many of most are left.
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

// pending says whether there are things to be freed.
func (l *holders) pending() bool {
	return len(l.cut)+len(l.passing)+len(l.held)+len(l.free)+len(l.freeRecords) > 0
}

// openHolder adds a holder of the published state. The caller holds publish.
func (db *DB) openHolder(records bool) *holder { return db.openHolderIn(new(holder), records) }

// openHolderIn is openHolder with memory for the holder.
func (db *DB) openHolderIn(h *holder, records bool) *holder {
	*h = holder{root: db.ix.Published(), epoch: db.ix.Epoch(), number: db.visible, records: records, opened: time.Now(), keys: db.keysShown()}
	if db.dirtySince {
		db.ix.NextEpoch()
		db.dirtySince = false
	} else {
		h.epoch-- // no page was born in this epoch yet, so it can continue
	}
	h.began = db.ix.Epoch()
	db.holders.push(h)
	return h
}

// undoEpoch takes back the epoch that began with the holder h, which has just been dropped, if
// nothing was published in it and no other holder sees the epoch before. Pages of that epoch may
// then change in place again, as if h had never existed. Without this, the next write would copy
// them. The caller holds publish.
func (db *DB) undoEpoch(h *holder) {
	newest := db.holders.newest
	if db.ix.Private() || h.began != db.ix.Epoch() || h.epoch+1 != h.began || db.dirtySince || newest != nil && newest.epoch >= h.epoch {
		return
	}
	db.ix.UndoEpoch()
	db.dirtySince = true
}

// closeHolder closes a holder. If the turn is free, it frees the things that only this holder
// pinned; otherwise the owners of the turn do.
func (db *DB) closeHolder(h *holder) {
	db.publish.Lock()
	db.holders.drop(h)
	db.undoEpoch(h)
	work := db.holders.pending()
	db.publish.Unlock()
	for work && db.turn.tryTake(true) {
		work = db.reclaimInTurn()
	}
	if work {
		db.wakeReclaimer() // the present owner of the turn may be the last one for some time
	}
}

// reclaimInTurn calls reclaim for a caller that has taken the turn, and gives the turn up.
func (db *DB) reclaimInTurn() (more bool) {
	defer db.turn.give()
	return db.reclaimSome()
}

// reclaimMost is how many things of holders, checkpoints and ranges are freed at a time in the
// background: about 20 us during which others wait.
const reclaimMost = 128

// reclaimLeast is how many of those things a commit frees, besides two for each of its entries. So
// a commit keeps up with its own garbage, and does not pay for a range that another one deleted.
const reclaimLeast = 16

// reclaim frees things that no holder sees: all that have just left the tree, and at most most of
// those that holders, checkpoints and ranges left. It says whether more of the latter remain. The
// caller holds the turn and publish, and no published page names these slots.
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

// reclaimSome calls reclaim. The caller holds the turn.
func (db *DB) reclaimSome() (more bool) {
	db.publish.Lock()
	defer db.publish.Unlock()
	return db.reclaim(reclaimMost)
}

// reclaimBeside calls reclaim for a commit of n entries, and leaves the rest to the background.
func (db *DB) reclaimBeside(n int) {
	if db.reclaim(reclaimLeast + 2*n) {
		db.wakeReclaimer()
	}
}

// pinning returns the holders that may have dead lists, including closed ones. The caller holds the
// turn, so that the lists do not shrink.
func (db *DB) pinning() (all []*holder) {
	db.publish.Lock()
	defer db.publish.Unlock()
	for h := db.holders.oldest; h != nil; h = h.newer {
		all = append(all, h)
	}
	return append(all, db.holders.passing...)
}

// reclaimRest frees everything that waits, some at a time, so that others do not wait for long.
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

// freeRecord frees a record's slot and its runs.
//
// I5: the slot of a run list that a checkpoint names stays allocated until the next checkpoint
// flips. A recovery reads the list to learn which runs the newer record freed.
//
// I6: if the runs hold the key too, they stay allocated as long. A recovery can neither replay nor
// set aside a record whose key it cannot read.
//
// R7: no newer record covers an expired record that was collected. So its slot stays allocated
// until a checkpoint frozen later has flipped.
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
		return // damaged: slot and runs stay allocated, and Check reports them
	}
	if rec.Flags&record.FlagSpillKey != 0 && !db.off(ruleI6) {
		db.tombs = append(db.tombs, x) // I6
		return
	}
	l, err := db.runs(&rec)
	if err != nil {
		return // damaged, as above
	}
	if rec.Number > db.frozenLast || db.off(ruleI5) {
		db.freeExtents(l.Extents)
		db.account(db.r.Free(o))
		return
	}
	db.freeExtents(l.Data())
	db.tombs = append(db.tombs, o)
	for page := range l.ListPages() { // one by one: the data extents are free already
		db.tombs = append(db.tombs, page)
	}
}

// account handles the result of a call to the allocator for a slot that the medium named. An error
// means that the medium contradicts itself: a slot has two owners, or a map is wrong. The slot
// stays allocated, and the store takes no more writes.
func (db *DB) account(err error) {
	if err != nil {
		_ = db.fail(err)
	}
}

func (db *DB) freeExtents(extents []alloc.Extent) {
	for _, e := range extents {
		db.account(db.r.FreeRun(e))
	}
}

// freeHeld frees a thing that waited for a checkpoint: a tombstone, with the runs of a long key, or
// a slot that I5 kept.
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

// supersede clears a record's live bit and frees the record when no snapshot sees it. newest is the
// newest holder that may see it. The caller holds the turn and publish.
func (db *DB) supersede(x btree.Ref, newest *holder) {
	now := x&btree.RefSpill == 0 && newestSnapshot(newest) == nil
	if now && !db.freesLater() {
		db.account(db.r.ClearAndFree(btree.RefOff(x)))
		return
	}
	db.account(db.r.ClearLive(btree.RefOff(x)))
	if now {
		db.freeLater(x)
		return
	}
	var rec record.Record
	if err := db.readRecord(btree.RefOff(x), &rec); err != nil {
		return // damaged: its slot stays allocated, and Check reports it
	}
	db.holders.deadRecord(newest, deadRecord{x, rec.Number, db.clearLive(&rec)})
}

// clearLive clears the live bits of a record's runs. It returns how many bytes of the medium the
// record takes with them.
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

// slotBytes returns the size of a slot, page or block.
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

// readNamed is readRecord for the record of an index entry. It also verifies the flags of the
// entry: that the record is a put, whether it has runs, and whether it expires.
func (db *DB) readNamed(x btree.Ref, rec *record.Record) error {
	err := db.readRecord(btree.RefOff(x), rec)
	if err == nil && !isOf(rec, x) {
		err = &CorruptError{Off: uint64(btree.RefOff(x)), Structure: "record, of which the index says otherwise,"}
	}
	return err
}

// isOf says whether the record matches the flags of x.
func isOf(r *record.Record, x btree.Ref) bool {
	return r.Kind == record.KindPut && r.Spilled() == (x&btree.RefSpill != 0) && (r.Expiry != 0) == (x&btree.RefTTL != 0)
}

// readPlain is readRecord for plain records, see record.Plain. It returns false for all others.
func (db *DB) readPlain(o nvmap.Off, p *record.Plain) bool {
	c := db.r.RecordAt(o)
	b := db.bytesAt(o, c.Bytes)
	return b != nil && p.Parse(b, db.seed, c.Carve, o)
}

// readAny reads a record that has nothing in runs, and returns its expiry.
func (db *DB) readAny(x btree.Ref, p *record.Plain) (expiry int64, err error) {
	if x&btree.RefTTL == 0 && db.readPlain(btree.RefOff(x), p) {
		return 0, nil
	}
	var rec record.Record
	err = db.readNamed(x, &rec)
	p.Key, p.Value = rec.Key, rec.Value
	return rec.Expiry, err
}
