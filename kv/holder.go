package kv

import (
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
	for _, d := range h.deadPages {
		l.deadPage(h.older, d)
	}
	for _, d := range h.deadRecords {
		l.deadRecord(h.older, d)
	}
	h.deadPages, h.deadRecords = nil, nil
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

// closeHolder drops a holder. What it alone pinned is freed by the next to hold
// the turn, or here if the turn is free.
func (db *DB) closeHolder(h *holder) {
	db.publish.Lock()
	db.holders.drop(h)
	work := len(db.holders.free)+len(db.holders.freeRecords) > 0
	db.publish.Unlock()
	if work && db.turn.tryTake() {
		db.publish.Lock()
		db.reclaim()
		db.publish.Unlock()
		db.turn.give()
	}
}

// reclaim frees what nobody sees any more. The caller holds the turn and
// publish, and everything that named these slots has been published away.
func (db *DB) reclaim() {
	l := &db.holders
	l.sweep(db.freePage)
	for _, x := range l.freeRecords {
		db.freeLater(x)
	}
	l.freeRecords = l.freeRecords[:0]
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
