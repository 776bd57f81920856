package kv

import (
	"slices"
	"time"

	"nvkv/alloc"
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
// I30. A slot, run, page or block is free for reuse only when no holder can see
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
	number       number
	records      bool // pins records too: a snapshot
	opened       time.Time
	keys         int64
	deadPages    []deadPage
	deadRecords  []deadRecord
	pinned       int64 // bytes on the dead lists
	gone         bool  // not on the list any more
}

type deadPage struct {
	off   nvmap.Off
	birth uint64
}

type deadRecord struct {
	ref    ref
	number number
	bytes  int64
}

// holders is the list, guarded by DB.publish.
type holders struct {
	oldest, newest *holder
	free           []nvmap.Off // pages and blocks that nobody sees any more
	freeRecords    []ref       // records likewise
	passing        []*holder   // gone, and what is on their dead lists is to be passed on
	cut            []condemned // pages that left the tree with all that they name
	held           []ref       // what waited for a checkpoint, which has flipped
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

// retirePage decides when a page or block that left the tree is freed.
func (l *holders) retirePage(o nvmap.Off, birth uint64) {
	l.deadPage(l.newest, deadPage{o, birth})
}

func (l *holders) deadPage(h *holder, d deadPage) {
	if h != nil && h.epoch >= d.birth && l.broken&ruleI30Page == 0 {
		h.deadPages = append(h.deadPages, d)
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
	if h = newestSnapshot(h); h != nil && h.number >= d.number && l.broken&ruleI30Record == 0 {
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
			l.deadPage(older, d)
		}
		h.deadPages, most = h.deadPages[n:], most-n
		n = min(most, len(h.deadRecords))
		for _, d := range h.deadRecords[:n] {
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

// ref is what the index stores for a key: the record's offset, which is a
// multiple of 8, and what must be known of it without reading it.
type ref = nvmap.Off

const (
	refSpill = 1 << 0 // the record owns runs
	refTTL   = 1 << 1 // the record may expire
	refHeld  = 1 << 2 // not in the index: it left without a newer record (R7)
	refBits  = 7
)

func refOff(r ref) nvmap.Off { return r &^ refBits }

// openHolder adds a holder of the published state. The caller holds publish.
func (db *DB) openHolder(records bool) *holder {
	h := &holder{root: nvmap.PageID(db.ix.published.Load()), epoch: db.ix.epoch, number: db.visible, records: records, opened: time.Now(), keys: db.keys}
	if db.dirtySince {
		db.ix.epoch++
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
	for work && db.turn.tryTake() {
		db.publish.Lock()
		work = db.reclaim()
		db.publish.Unlock()
		db.turn.give()
	}
	if work {
		db.wakeReclaimer() // who holds the turn now may be the last
	}
}

// reclaimMost is how much of what holders and checkpoints left is freed at a
// time: about 0.1 ms of holding everybody up.
const reclaimMost = 1024

// reclaim frees what nobody sees any more: what has just left the tree, and some
// of what holders and checkpoints left that are gone. It says whether there is
// more of that. The caller holds the turn and publish, and everything that named
// these slots has been published away.
func (db *DB) reclaim() (more bool) {
	l := &db.holders
	n := min(l.passOn(db.dismantle(reclaimMost)), len(l.held))
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
	return l.pending()
}

// reclaimRest frees all of it, a little at a time, so that nobody waits for long.
func (db *DB) reclaimRest() {
	for more := true; more; {
		end := db.standstill()
		db.lockReaders()
		db.publish.Lock()
		more = db.reclaim()
		db.publish.Unlock()
		db.unlockReaders()
		end()
	}
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
func (db *DB) freeRecord(x ref) {
	if x&refHeld != 0 && !db.off(ruleR7) {
		db.tombs = append(db.tombs, x&^refHeld)
		return
	}
	o := refOff(x)
	if x&refSpill == 0 {
		db.r.Free(o)
		return
	}
	var rec record
	if db.readRecord(o, &rec) != nil {
		return // damaged: slot and runs stay allocated, Check names them
	}
	if rec.flags&flagSpillKey != 0 && !db.off(ruleI6) {
		db.tombs = append(db.tombs, x) // I6
		return
	}
	_, list := rec.extents()
	for _, e := range list {
		db.r.FreeRun(e)
	}
	if rec.number <= db.frozenLast && !db.off(ruleI5) {
		db.tombs = append(db.tombs, o)
		return
	}
	db.r.Free(o)
}

// freeHeld frees what waited for a checkpoint: a tombstone, with the runs that
// hold its key if that is long, or a slot that I5 kept.
func (db *DB) freeHeld(x ref) {
	if x&refSpill != 0 {
		var rec record
		if db.readRecord(refOff(x), &rec) == nil {
			_, list := rec.extents()
			for _, e := range list {
				db.r.FreeRun(e)
			}
		}
	}
	db.r.Free(refOff(x))
}

// supersede takes a record out of what the index reaches, and frees it when no
// snapshot sees it. The caller holds the turn and publish.
func (db *DB) supersede(x ref) {
	db.r.ClearLive(refOff(x))
	snapshot := newestSnapshot(db.holders.newest)
	if snapshot == nil && x&refSpill == 0 {
		if db.grouped() {
			db.freeLater(x)
		} else {
			db.r.Free(refOff(x))
		}
		return
	}
	var rec record
	if err := db.readRecord(refOff(x), &rec); err != nil {
		return // damaged: its slot stays allocated, Check names it
	}
	bytes := int64(rec.size)
	if x&refSpill != 0 {
		_, list := rec.extents()
		for _, e := range list {
			db.r.ClearLiveRun(e)
			bytes += e.Bytes
		}
	}
	db.holders.deadRecord(db.holders.newest, deadRecord{x, rec.number, bytes})
}

// readRecord decodes and verifies the record at o. Its slices alias the medium.
func (db *DB) readRecord(o nvmap.Off, rec *record) error {
	rec.off = o
	d, ok := db.r.Describe(o)
	if !ok || d.Kind != alloc.KindRecord {
		return &CorruptError{Off: uint64(o), Structure: "record offset"}
	}
	b := db.bytesAt(o, d.SlotBytes)
	if b == nil || !rec.parse(b) || !rec.sealed(b, db.seed, d.Carve, o) {
		return &CorruptError{Off: uint64(o), Structure: "record"}
	}
	return nil
}

// readPlain is readRecord for what most records are; false says nothing of the
// others.
func (db *DB) readPlain(o nvmap.Off, p *plain) bool {
	c := db.r.RecordAt(o)
	b := db.bytesAt(o, c.Bytes)
	return b != nil && p.parse(b, db.seed, c.Carve, o)
}

// readAny reads a record that has nothing in runs, and when it expires.
func (db *DB) readAny(x ref, p *plain) (expiry int64, err error) {
	if x&refTTL == 0 && db.readPlain(refOff(x), p) {
		return 0, nil
	}
	var rec record
	err = db.readRecord(refOff(x), &rec)
	p.key, p.value = rec.key, rec.value
	return rec.expiry, err
}
