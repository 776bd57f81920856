package kv

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// recovered is what an opening found and did.
type recovered struct {
	took     time.Duration
	scanned  int64 // bytes of slabs that were read
	replayed int64 // records applied to the index
	void     int64 // records of a transaction that did not end
	damaged  []CorruptError
}

// candidate is a record that recovery found and that may count.
type candidate struct {
	number  number
	ordinal uint32
	count   uint32
	off     nvmap.Off
	kind    byte
	flags   byte
	bytes   int32
}

// recovery brings the index from the last checkpoint to the last transaction
// that ended.
type recovery struct {
	db        *DB
	st        state
	found     []candidate
	highest   number // newest transaction of the run that died; 0 if it wrote none
	void      bool   // the highest did not end
	displaced []ref
	runs      []alloc.Extent // runs of displaced records
	bytes     int64
}

func (db *DB) recover() error {
	st, err := decodeState(db.r.Payload())
	if err != nil {
		return err
	}
	rc := &recovery{db: db, st: st}
	db.r.SetInterval(st.interval)
	if err := rc.loadCheckpoint(); err != nil {
		return err
	}
	rc.scan()
	rc.decide()
	if err := rc.persist(); err != nil {
		return err
	}
	rc.claim()
	db.r.Ready()
	if err := rc.replay(); err != nil {
		return err
	}
	rc.free()
	if db.off(ruleR4) && st.run != 0 {
		return rc.resumeRun()
	}
	return rc.beginRun()
}

// loadCheckpoint takes tree and maps from the last checkpoint.
func (rc *recovery) loadCheckpoint() error {
	db, st := rc.db, &rc.st
	db.ix.epoch = st.epoch + 1
	db.visible, db.frozenLast = st.last, st.last
	ambiguous, err := db.r.LoadMaps(st.maps)
	if err != nil || st.root == 0 {
		return err // without a root none was taken yet: all maps are obsolete
	}
	db.ix.root, db.ix.height = st.root, int(st.height)
	db.ix.hasLong, db.ix.leaves = st.hasLong, int(st.leaves)
	db.ix.published.Store(uint64(st.root))
	db.keys = st.keys
	root, err := db.ix.load(child{page: st.root})
	if err != nil {
		return err
	}
	if db.ix.height < 2 || db.ix.height > maxHeight || pageLevel(root) != db.ix.height-1 {
		return &CorruptError{Off: uint64(st.root.Off()), Structure: "index root"}
	}
	db.checkpoints.current = &holder{root: st.root, epoch: st.epoch, number: st.last}
	db.holders.push(db.checkpoints.current)
	if len(ambiguous) == 0 {
		return nil
	}
	return rc.decideMaps(ambiguous)
}

// decideMaps fills the maps that cannot be trusted from what the index reaches.
func (rc *recovery) decideMaps(slabs []int) error {
	db := rc.db
	in := make(map[int]bool, len(slabs))
	for _, i := range slabs {
		in[i] = true
	}
	take := func(o nvmap.Off, k alloc.Kind) error {
		if !in[db.r.SlabOf(o)] {
			return nil
		}
		if _, _, ok := db.r.Carve(o, k); !ok && (k == alloc.KindRecord || k == alloc.KindRun) {
			return nil // superseded since, and its slab carved anew
		}
		if err := db.r.Claim(o, k); err != nil {
			return err
		}
		db.r.SetLive(o)
		return nil
	}
	return db.reach(rc.st.root, take, func(e alloc.Extent) error {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if err := take(o, alloc.KindRun); err != nil {
				return err
			}
		}
		return nil
	})
}

// scan reads the slabs that were written since the checkpoint's freeze (R5).
func (rc *recovery) scan() {
	for s := range rc.db.r.Slabs() {
		if s.Kind == alloc.KindRecord && (s.MarkBad || s.Mark >= rc.st.interval) {
			rc.scanSlab(s)
		}
	}
	slices.SortFunc(rc.found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.ordinal, b.ordinal))
	})
}

func (rc *recovery) scanSlab(s alloc.SlabInfo) {
	n := s.Slots * s.SlotBytes
	b, err := rc.db.tryBytesAt(s.Off, n)
	if b == nil && err == nil {
		return
	}
	rc.db.recovered.scanned += int64(n)
	if err != nil {
		rc.scanOneByOne(s, n)
		return
	}
	for o := 0; o < n; {
		o = rc.scanSlots(s, b, o)
	}
}

// scanOneByOne reads what can be read of a slab that is not mapped and cannot be
// read in one piece.
func (rc *recovery) scanOneByOne(s alloc.SlabInfo, n int) {
	for o := 0; o < n; o += s.SlotBytes {
		off := s.Off + nvmap.Off(o)
		slot, err := rc.db.tryBytesAt(off, s.SlotBytes)
		if err != nil {
			rc.damage(off, unreadableSlot, nil)
			continue
		}
		rc.scanSlot(s, slot, off)
	}
}

const unreadableSlot = "record slot, which cannot be read"

// scanSlots reads the slots of a slab from offset o on, and returns where to go
// on: behind the last, or behind one that cannot be read. A poisoned line is
// not a torn record: whatever it held, opening goes on and says so (R13).
func (rc *recovery) scanSlots(s alloc.SlabInfo, b []byte, o int) (next int) {
	defer func() {
		if r := recover(); r != nil {
			if rc.db.fault(r, "recover") == nil {
				panic(r)
			}
			rc.damage(s.Off+nvmap.Off(o), unreadableSlot, nil)
			next = o + s.SlotBytes
		}
	}()
	for ; o < len(b); o += s.SlotBytes {
		rc.scanSlot(s, b[o:o+s.SlotBytes], s.Off+nvmap.Off(o))
	}
	return o
}

func (rc *recovery) scanSlot(s alloc.SlabInfo, slot []byte, off nvmap.Off) {
	db := rc.db
	var rec record
	if !rec.parse(slot) || rec.number <= rc.st.last || !db.fits(&rec, s.Class) {
		return
	}
	if yes, undecided := rc.st.counts(rec.number); !yes && !undecided {
		return
	}
	if !rec.sealed(slot, db.seed, s.Carve, off) {
		return
	}
	rc.found = append(rc.found, candidate{rec.number, rec.ordinal, rec.count, off, rec.kind, rec.flags, int32(rec.size)})
}

// fits demands that the record's length chooses the very class it lies in.
func (db *DB) fits(rec *record, class alloc.ClassID) bool {
	c, ok := db.r.ClassFor(rec.size)
	return ok && c == class
}

// decide finds the highest transaction of the run that died and whether it
// ended. Commits are serial, so only the highest can be incomplete. What was
// decided for earlier runs stays decided (R4).
func (rc *recovery) decide() {
	if len(rc.found) == 0 {
		return
	}
	last := rc.found[len(rc.found)-1]
	if last.number.run() != rc.st.run {
		return
	}
	rc.highest = last.number
	first := len(rc.found)
	for first > 0 && rc.found[first-1].number == rc.highest {
		first--
	}
	if rc.whole(rc.found[first:]) {
		return
	}
	rc.void = true
	rc.db.recovered.void = int64(len(rc.found) - first)
	rc.found = rc.found[:first]
}

// whole says whether all records of a transaction are there, runs included.
func (rc *recovery) whole(t []candidate) bool {
	for i, c := range t {
		if c.count != uint32(len(t)) || c.ordinal != uint32(i) {
			return false
		}
		if c.flags&flagSpill != 0 {
			var rec record
			if rc.db.readRecord(c.off, &rec) != nil || !rc.carvedRuns(&rec) || !rc.db.runsWhole(&rec) {
				return false
			}
		}
	}
	return true
}

// carvedRuns says whether the slabs below a record's runs are known as such:
// that they were carved rides on the same fence.
func (rc *recovery) carvedRuns(rec *record) bool {
	_, list := rec.extents()
	for _, e := range list {
		if rc.db.r.CheckExtent(e) != nil {
			return false
		}
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if _, _, ok := rc.db.r.Carve(o, alloc.KindRun); !ok {
				return false
			}
		}
	}
	return true
}

// lastCounter is the counter that is decided for the run that died.
func (rc *recovery) lastCounter() uint64 {
	switch {
	case rc.highest == 0:
		return 0
	case rc.void:
		return rc.highest.counter() - 1
	}
	return rc.highest.counter()
}

// persist writes again, unchanged and in place, what this recovery relies on
// and what may be visible without being durable: a process was killed, or a
// fence failed and left its pages looking clean (R12).
func (rc *recovery) persist() error {
	db := rc.db
	if db.opt.ReadOnly || db.off(ruleR12) {
		return nil
	}
	if !rc.void {
		for i := len(rc.found) - 1; i >= 0 && rc.highest != 0 && rc.found[i].number == rc.highest; i-- {
			if err := rc.rewrite(&rc.found[i]); err != nil {
				return err
			}
		}
	}
	if err := db.m.Fence(); err != nil {
		return err
	}
	return db.r.RewriteSuper()
}

func (rc *recovery) rewrite(c *candidate) error {
	db := rc.db
	if err := db.r.Touch(c.off); err != nil {
		return err
	}
	if c.flags&flagSpill != 0 {
		var rec record
		if err := db.readRecord(c.off, &rec); err != nil {
			return err
		}
		_, list := rec.extents()
		for _, e := range list {
			if err := rc.rewriteRun(e); err != nil {
				return err
			}
		}
	}
	return db.m.Write(c.off, bytes.Clone(db.bytesAt(c.off, int(c.bytes))))
}

// rewriteRun writes a run again, and what the slabs below it were carved into.
func (rc *recovery) rewriteRun(e alloc.Extent) error {
	db := rc.db
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if err := db.r.Touch(o); err != nil {
			return err
		}
	}
	return db.m.Write(e.Off, bytes.Clone(db.bytesAt(e.Off, int(e.Bytes))))
}

// claim makes every record that counts used before anything is allocated.
func (rc *recovery) claim() {
	for i := range rc.found {
		c := &rc.found[i]
		if rc.db.r.IsUsed(c.off) {
			// taken from what the checkpoint's maps call used
		} else if err := rc.db.r.Claim(c.off, alloc.KindRecord); err != nil {
			rc.damage(c.off, "record slot", nil)
		}
		if c.flags&flagSpill == 0 {
			continue
		}
		var rec record
		if rc.db.readRecord(c.off, &rec) != nil {
			continue
		}
		_, list := rec.extents()
		for _, e := range list {
			if rc.db.r.CheckExtent(e) == nil {
				rc.claimPages(e)
			}
		}
	}
}

// claimPages claims what is not claimed yet: a run may have been freed by one
// record and taken by the next, and both are candidates.
func (rc *recovery) claimPages(e alloc.Extent) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if !rc.db.r.IsUsed(o) {
			_ = rc.db.r.Claim(o, alloc.KindRun) // not a run slab any more: the record was superseded
		}
	}
}

func (rc *recovery) damage(o nvmap.Off, what string, key []byte) {
	d := CorruptError{Off: uint64(o), Structure: what, Key: bytes.Clone(key)}
	rc.db.recovered.damaged = append(rc.db.recovered.damaged, d)
	rc.db.opt.Logger.Warn("recovery met damage", "error", d.Error())
}

// replay applies the records in order.
func (rc *recovery) replay() error {
	db := rc.db
	if rc.st.root == 0 {
		if err := db.ix.reserve(2, 1, true); err != nil {
			return err
		}
		if err := db.ix.newTree(); err != nil {
			return err
		}
	}
	for i := range rc.found {
		if err := rc.apply(&rc.found[i]); err != nil {
			return err
		}
		db.holders.sweep(db.r.Free)
	}
	return nil
}

func (rc *recovery) apply(c *candidate) error {
	db := rc.db
	var rec record
	if err := db.readRecord(c.off, &rec); err != nil {
		return err // it was good a moment ago
	}
	key := rec.key
	if rec.flags&flagSpillKey != 0 {
		var err error
		if key, _, err = db.readRuns(&rec, nil); err != nil {
			// Superseded and its runs reused; else Check misses the key.
			rc.damage(c.off, "runs of a record that may be superseded", nil)
			return nil
		}
	}
	es := [1]entry{{key: key}}
	if err := db.reserveFor(es[:], true); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	p := &db.way
	if err := db.ix.find(key, p); err != nil {
		return err
	}
	db.recovered.replayed++
	rc.bytes += int64(c.bytes)
	if c.kind == kindDelete {
		x := c.off
		if rec.spilled() {
			x |= refSpill
		}
		if db.off(ruleR6Recovery) {
			rc.displaced = append(rc.displaced, x)
		} else {
			db.tombs = append(db.tombs, x)
		}
		if !p.found {
			return nil
		}
		old, err := db.ix.remove(p)
		db.keys--
		rc.displace(old, key)
		return err
	}
	x := c.off
	if rec.spilled() {
		x |= refSpill
	}
	if rec.expiry != 0 {
		x |= refTTL
	}
	if !p.found {
		db.keys++
		if err := db.ix.insert(key, x, p); err != nil {
			return err
		}
	} else {
		old, err := db.ix.update(p, x)
		if err != nil {
			return err
		}
		rc.displace(old, key)
	}
	rc.live(c.off, &rec)
	return nil
}

// live marks what the index reaches from now on.
func (rc *recovery) live(o nvmap.Off, rec *record) {
	db := rc.db
	if db.r.IsUsed(o) {
		db.r.SetLive(o)
	}
	if !rec.spilled() {
		return
	}
	_, list := rec.extents()
	for _, e := range list {
		if db.r.CheckExtent(e) != nil {
			continue
		}
		rc.eachUsed(e, db.r.SetLive)
		rc.bytes += e.Bytes
	}
}

// eachUsed calls fn for the pages of a run that are in use as such: their slabs
// may have been carved into something else since the run was freed.
func (rc *recovery) eachUsed(e alloc.Extent, fn func(nvmap.Off)) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if _, _, run := rc.db.r.Carve(o, alloc.KindRun); run && rc.db.r.IsUsed(o) {
			fn(o)
		}
	}
}

// displace takes the record that key had out of what the index reaches. The
// slot may have been freed and taken since the checkpoint, by another key's
// record or by a tombstone, and its slab carved anew: then it stays theirs.
func (rc *recovery) displace(x ref, key []byte) {
	db := rc.db
	o := refOff(x)
	if _, _, ok := db.r.Carve(o, alloc.KindRecord); !ok || !db.r.IsUsed(o) {
		return
	}
	var rec record
	readable := db.readRecord(o, &rec) == nil
	if readable && rc.replays(&rec) {
		if rec.kind == kindDelete {
			db.r.ClearLive(o) // R6: used, not live
			return
		}
		if !rc.hasKey(&rec, key) {
			return
		}
	}
	db.r.ClearLive(o)
	rc.displaced = append(rc.displaced, x)
	if x&refSpill == 0 || !readable {
		return
	}
	_, list := rec.extents()
	for _, e := range list {
		if db.r.CheckExtent(e) == nil {
			rc.eachUsed(e, db.r.ClearLive)
			if rec.flags&flagSpillKey == 0 { // else I6
				rc.runs = append(rc.runs, e)
			}
		}
	}
}

// replays says whether a record is one that this recovery applies.
func (rc *recovery) replays(rec *record) bool {
	yes, undecided := rc.st.counts(rec.number)
	if undecided {
		yes = rec.number.counter() <= rc.lastCounter()
	}
	return yes && rec.number > rc.st.last
}

// hasKey says whether a record is one of key, wherever its key lies.
func (rc *recovery) hasKey(rec *record, key []byte) bool {
	k := rec.key
	if rec.flags&flagSpillKey != 0 {
		k, _, _ = rc.db.readRuns(rec, nil)
	}
	return bytes.Equal(k, key)
}

// free gives back what replay displaced and nothing else took.
func (rc *recovery) free() {
	db := rc.db
	kept := rc.keepRuns()
	freeIf := func(o nvmap.Off) {
		if _, keep := kept[o]; !keep && db.r.IsUsed(o) && !db.r.IsLive(o) {
			db.r.Free(o)
		}
	}
	for _, x := range rc.displaced {
		var rec record
		if x&refSpill != 0 && db.r.IsUsed(refOff(x)) && !db.r.IsLive(refOff(x)) && db.readRecord(refOff(x), &rec) == nil {
			if rec.flags&flagSpillKey != 0 {
				db.tombs = append(db.tombs, x) // I6
				continue
			}
			if rec.number <= db.frozenLast {
				db.tombs = append(db.tombs, refOff(x)) // I5
				continue
			}
		}
		freeIf(refOff(x))
	}
	for _, e := range rc.runs {
		rc.eachUsed(e, freeIf)
	}
}

// keepRuns settles whose the pages are that a displaced record and a newer one
// both name: those of records that the index reaches are live, and those that
// wait for a checkpoint are returned.
func (rc *recovery) keepRuns() map[nvmap.Off]struct{} {
	db := rc.db
	kept := map[nvmap.Off]struct{}{}
	for _, c := range rc.found {
		var rec record
		if c.flags&flagSpill == 0 || db.readRecord(c.off, &rec) != nil {
			continue
		}
		_, list := rec.extents()
		for _, e := range list {
			switch {
			case db.r.CheckExtent(e) != nil:
			case db.r.IsLive(c.off):
				rc.eachUsed(e, db.r.SetLive)
			case c.kind == kindDelete || c.flags&flagSpillKey != 0: // R6, I6
				rc.eachUsed(e, func(o nvmap.Off) { kept[o] = struct{}{} })
			}
		}
	}
	return kept
}

// beginRun makes this opening a run of its own: the next recovery must not
// take for its own what an earlier one wrote or voided (R4).
func (rc *recovery) beginRun() error {
	db, st := rc.db, rc.st
	db.dirtySince = true
	db.sinceCheckpoint = rc.bytes // R11
	db.checkpoints.base = rc.st
	if db.opt.ReadOnly {
		return nil
	}
	if st.run == maxRun {
		return fmt.Errorf("%w: it has been opened %d times", ErrVersion, maxRun)
	}
	if st.run != 0 {
		st.ended = append(slices.Clone(st.ended), endedRun{st.run, rc.lastCounter()})
	}
	st.run++
	db.run, db.counter = st.run, 0
	if err := db.r.WriteSuper(st.encode()); err != nil {
		return err
	}
	db.visible = makeNumber(db.run, 0)
	db.checkpoints.base = st
	if len(st.ended) >= checkpointAt {
		return db.checkpoint(context.Background())
	}
	return nil
}
