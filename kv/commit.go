package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// entry is one operation on its way to the medium.
type entry struct {
	kind    byte
	image   []byte // room for a header, then the body
	key     []byte // in image
	sum     uint32 // checksum of the body, computed before the turn
	expiry  int64
	covered bool   // a delete that a range of the same transaction says: it has no record
	open    bool   // a range without end
	spill   bool   // the value goes to runs
	bare    bool   // the key too
	moved   bool   // by the evacuator: nobody's put
	list    []byte // body of a spilled record: the key unless bare, then the run list
	extents []alloc.Extent
	cut     *cutting // of a range that is not listed key by key
	off     nvmap.Off
	rec     int // bytes in the slot
}

func (e *entry) value() []byte { return e.image[maxRecHeader+len(e.key):] }

// prepare does what needs no turn: the checksum of the body.
func (db *DB) prepare(e *entry) {
	body := e.image[maxRecHeader:]
	e.sum = bodySum(body)
	e.spill = len(body)+maxRecHeader > db.r.LargestSlot()
}

func (e *entry) flags(multi bool) (f byte) {
	if multi {
		f |= flagMulti
	}
	if e.expiry != 0 {
		f |= flagExpiry
	}
	if e.open {
		f |= flagOpen
	}
	if e.spill {
		f |= flagSpill
		if e.bare {
			f |= flagSpillKey
		}
	}
	return f
}

// inRuns returns what of a spilled entry lies in runs.
func (e *entry) inRuns() []byte {
	if e.bare {
		return e.image[maxRecHeader:]
	}
	return e.value()
}

// ref is what the index stores for e.
func (e *entry) ref() ref {
	r := e.off
	if e.spill {
		r |= refSpill
	}
	if e.expiry != 0 {
		r |= refTTL
	}
	return r
}

// commit makes the entries durable and visible together, with one fence; in
// relaxed mode it leaves the fence to the end of the group. Ranges come first;
// the other keys are distinct and, if there are several, sorted. The caller holds
// the turn.
//
// I1. Nothing that can fail for want of space comes after the first write.
// I2. No record of a transaction is written before all of the one before are
// fenced: commits are serial, and each ends fenced or fails the store.
// I3. The index shows a record only after its fence.
func (db *DB) commit(es []entry) (err error) {
	defer db.guardedCommit(panicOnFault(true), &err)
	if err := db.writable(); err != nil {
		return err
	}
	pages, blocks := db.pagesFor(es)
	frames, perEntry := pages+blocks, db.framesOfOne()
	private := len(es) >= db.opt.privateFrom || frames > db.m.CacheFrames()/8
	switch {
	case cutOf(es) != nil:
		private, perEntry = true, frames
	case private:
		frames = perEntry
	}
	if err := db.roomFor(frames); err != nil {
		return db.fail(err)
	}
	db.inside = db.pages.beginInside()
	defer db.endInside()
	all := len(es)
	es, err = db.dropAbsent(es)
	if len(es) == 0 || err != nil {
		return err
	}
	if len(es) < all {
		pages, blocks = db.pagesFor(es)
	}
	urgent := givesBack(es)
	if err := db.ix.reserve(pages, blocks, urgent); err != nil {
		return db.refuse(err)
	}
	if err := db.openGroup(urgent); err != nil {
		return db.refuse(err)
	}
	if err := db.placeAndStore(es, urgent); err != nil {
		return err
	}
	// The descent overlaps the drain of the stores: the fence waits for them,
	// loads do not.
	single := len(es) == 1 && !private
	if single {
		if err := db.ix.find(es[0].key, &db.way); err != nil {
			return db.fail(err)
		}
	}
	if err := db.endCommit(); err != nil {
		return db.fail(err)
	}
	if single {
		err = db.publishOne(&es[0])
	} else {
		err = db.publishAll(es, private, perEntry)
	}
	if err != nil {
		return db.fail(err)
	}
	db.count(es)
	db.pressed()
	return db.countGroup(es)
}

// placeAndStore gives the entries their places, all of them before the first is
// written (I1), and writes them.
func (db *DB) placeAndStore(es []entry, urgent bool) error {
	if db.off(ruleI1) {
		return db.storeAsPlaced(es, urgent)
	}
	if err := db.place(es, urgent); err != nil {
		return db.refuse(err)
	}
	if err := db.store(es); err != nil {
		return db.fail(err)
	}
	return nil
}

// guardedCommit is guarded for a commit: how far it came is not known.
func (db *DB) guardedCommit(old bool, err *error) {
	panicOnFault(old)
	if r := recover(); r != nil {
		*err = db.fail(db.fault(r, "commit"))
		if db.showing.Load()&1 != 0 {
			db.showing.Add(1) // point reads wait for it
		}
	}
}

// givesBack says whether a commit leaves more room than it takes: deletes, and
// moves out of sparse slabs.
func givesBack(es []entry) bool {
	for i := range es {
		if es[i].kind != kindDelete && es[i].kind != kindRange && !es[i].moved {
			return false
		}
	}
	return true
}

// records returns how many of es have a record.
func records(es []entry) (n int) {
	for i := range es {
		if !es[i].covered {
			n++
		}
	}
	return n
}

// dropAbsent takes out deletes of keys that are not there: they need no record.
// If such a key was deleted before, that was fenced before it was published.
// Likewise ranges, if no key is left that they delete. It leaves es as it is: a
// commit that finds the store full is tried again.
func (db *DB) dropAbsent(es []entry) ([]entry, error) {
	if c := cutOf(es); c != nil {
		any, err := db.survey(c)
		if !any {
			es = nil
		}
		return es, err
	}
	ranges := 0
	for ranges < len(es) && es[ranges].kind == kindRange {
		ranges++
	}
	out, err := db.dropAbsentKeys(es[ranges:])
	if ranges == 0 || err != nil {
		return out, err
	}
	for i := range out {
		if out[i].covered {
			return append(es[:ranges:ranges], out...), nil
		}
	}
	return out, nil
}

func (db *DB) dropAbsentKeys(es []entry) ([]entry, error) {
	out := es
	dropped := false
	for i := range es {
		if es[i].kind == kindDelete {
			if err := db.ix.find(es[i].key, &db.way); err != nil {
				return nil, err
			}
			if !db.way.found {
				if !dropped {
					dropped = true
					out = append(make([]entry, 0, len(es)-1), es[:i]...)
				}
				continue
			}
		}
		if dropped {
			out = append(out, es[i])
		}
	}
	return out, nil
}

// pagesFor returns how many pages and blocks publishing es can take at most: a
// copy of each leaf and of the way to it, a split of each, neighbours of merges,
// and overflow pages for long keys.
func (db *DB) pagesFor(es []entry) (pages, blocks int) {
	if cutOf(es) != nil {
		return db.ix.pagesForCut()
	}
	h := db.ix.height
	leaves := min(len(es), db.ix.leaves)
	bytes := 0
	pages = 4*h + 4
	for i := range es {
		bytes += len(es[i].key) + headBytes + slotWidth + vbEntry
		pages += overflowPages(len(es[i].key))
		if db.ix.hasLong || len(es[i].key) > maxInline {
			pages += overflowPages(MaxKeyBytes)
		}
	}
	splits := bytes/(nvmap.PageBytes/4) + len(es)/(leafFanout/4)
	return pages + leaves + leaves/4 + splits, 6 + leaves + splits
}

// framesOfOne returns how many frames publishing an entry can make at most.
func (db *DB) framesOfOne() int {
	return 4*db.ix.height + 4 + 16 + 2*overflowPages(MaxKeyBytes)
}

// endInside ends the section of a commit.
func (db *DB) endInside() {
	if s := db.inside; s != nil {
		db.inside = nil
		s.endInside()
	}
}

// place gives every entry its slot, and its runs. It takes nothing on failure.
func (db *DB) place(es []entry, urgent bool) error {
	multi := records(es) > 1 || db.grouped()
	for i := range es {
		if es[i].covered {
			continue
		}
		if err := db.placeOne(&es[i], multi, urgent); err != nil {
			for j := range i {
				if !es[j].covered {
					db.unplace(&es[j])
				}
			}
			return err
		}
	}
	return nil
}

func (db *DB) placeOne(e *entry, multi, urgent bool) error {
	if e.spill {
		if err := db.placeRuns(e); err != nil {
			return err
		}
		e.rec = headerBytes(e.flags(multi)) + len(e.list)
	} else {
		e.rec = headerBytes(e.flags(multi)) + len(e.image) - maxRecHeader
	}
	class, ok := db.r.ClassFor(e.rec)
	if !ok {
		return fmt.Errorf("nvkv: record of %d bytes has no class", e.rec)
	}
	off, err := db.r.AllocRecord(class, urgent)
	if err != nil {
		for _, x := range e.extents {
			db.r.FreeRun(x)
		}
		e.extents = nil
		return err
	}
	e.off = off
	return nil
}

// placeRuns allocates runs for the value, and for the key where it is too long
// to stand beside the run list.
func (db *DB) placeRuns(e *entry) error {
	inline := e.key
	if e.bare = len(inline) > db.r.LargestSlot()/4; e.bare {
		inline = nil
	}
	body := e.inRuns()
	most := (db.r.LargestSlot() - maxRecHeader - len(inline) - runListHeader) / runEntryBytes
	list, err := db.r.AllocRuns(int64(len(body)), most)
	if err != nil {
		return err
	}
	e.extents = list
	e.list = appendExtents(append([]byte(nil), inline...), bodySum(body), list)
	return nil
}

func (db *DB) unplace(e *entry) {
	db.r.Free(e.off)
	for _, x := range e.extents {
		db.r.FreeRun(x)
	}
}

// store writes the records, and the marks of their slabs (R5), unfenced.
func (db *DB) store(es []entry) error {
	if db.counter == maxCounter {
		return fmt.Errorf("nvkv: run %d has used up its numbers", db.run)
	}
	ordinal, count := 0, records(es)
	if db.grouped() {
		ordinal, count = int(db.group.records), 0
	}
	if ordinal == 0 {
		db.counter++
	}
	for i := range es {
		e := &es[i]
		if e.covered {
			continue
		}
		if e.spill {
			if err := db.storeRuns(e); err != nil {
				return err
			}
		}
		if err := db.storeOne(e, ordinal, count); err != nil {
			return err
		}
		ordinal++
	}
	return nil
}

func (db *DB) storeOne(e *entry, ordinal, count int) error {
	if err := db.r.Touch(e.off); err != nil {
		return err
	}
	flags := e.flags(count != 1)
	h := headerBytes(flags)
	img := e.image[maxRecHeader-h:]
	if e.spill {
		img = append(make([]byte, h, h+len(e.list)), e.list...)
		e.sum = bodySum(e.list)
	}
	le := binary.LittleEndian
	le.PutUint64(img[recNumber:], uint64(makeNumber(db.run, db.counter)))
	le.PutUint32(img[recValLen:], uint32(len(e.value())))
	le.PutUint16(img[recKeyLen:], uint16(len(e.key)))
	img[recKind], img[recFlags] = e.kind, flags
	o := recHeader
	if count != 1 {
		le.PutUint32(img[o:], uint32(ordinal))
		le.PutUint32(img[o+4:], uint32(count))
		o += recMultiBytes
	}
	if e.expiry != 0 {
		le.PutUint64(img[o:], uint64(e.expiry))
	}
	carve, _, _ := db.r.Carve(e.off, alloc.KindRecord)
	le.PutUint32(img[recSum:], recordSum(db.seed, e.sum, img[:h], carve, e.off))
	return db.m.Write(e.off, padded(img))
}

// padded extends a record to whole 8-byte words, which are cheaper to store
// than an odd tail. What follows a body in memory is spare room or that of the
// next header, whose first bytes are not filled in before its turn: zeros do no
// harm there.
func padded(img []byte) []byte {
	n := (len(img) + 7) &^ 7
	if n > cap(img) {
		return img
	}
	out := img[:n]
	clear(out[len(img):])
	return out
}

// storeRuns writes a spilled body. It is part of the transaction: the run list
// carries its checksum, and one fence covers both.
func (db *DB) storeRuns(e *entry) error {
	body := e.inRuns()
	for _, x := range e.extents {
		n := min(int64(len(body)), x.Bytes)
		if err := db.m.Write(x.Off, body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// publishOne shows a single record. The tree has not changed since db.way was
// found; the epoch may have, and every change looks at it.
func (db *DB) publishOne(e *entry) error {
	db.publish.Lock()
	defer db.publish.Unlock()
	if err := db.apply(e, &db.way); err != nil {
		return err
	}
	db.published()
	return nil
}

// defaultPrivateFrom is how many records are shown by a root swap. Fewer are
// shown one by one under the store-wide counter, during which point reads wait.
// Where they lie far apart, a root swap copies a leaf of 5 KiB for nearly every
// one of them; the bound was chosen by that, not by a measurement of its own.
const defaultPrivateFrom = 1024

func (db *DB) publishAll(es []entry, private bool, frames int) error {
	db.publish.Lock()
	defer db.publish.Unlock()
	if private {
		db.ix.beginPrivate()
	} else {
		db.showing.Add(1)
	}
	var err error
	for i := range es {
		if private {
			if err = db.roomFor(frames); err != nil {
				break
			}
		}
		if es[i].kind == kindRange {
			if c := es[i].cut; c != nil {
				if err = db.cut(c); err != nil {
					break
				}
			}
			db.bury(&es[i])
			continue
		}
		if err = db.ix.find(es[i].key, &db.way); err != nil {
			break
		}
		if err = db.apply(&es[i], &db.way); err != nil {
			break
		}
	}
	switch {
	case !private:
		db.showing.Add(1)
	case err == nil:
		db.ix.publishPrivate()
	}
	if err == nil {
		db.published()
	}
	return err
}

// published ends a publication: what left the tree may be freed now.
func (db *DB) published() {
	db.visible = makeNumber(db.run, db.counter)
	db.dirtySince = true
	for _, x := range db.replacedRecords {
		db.supersede(x)
	}
	db.replacedRecords = db.replacedRecords[:0]
	db.reclaim()
}

// apply changes the index by one entry.
func (db *DB) apply(e *entry, p *path) error {
	if e.kind == kindDelete {
		old, err := db.ix.remove(p)
		if err != nil {
			return err
		}
		db.keys--
		if !e.covered {
			db.bury(e)
		}
		db.replacedRecords = append(db.replacedRecords, old)
		return nil
	}
	db.r.SetLive(e.off)
	for _, x := range e.extents {
		db.r.SetLiveRun(x)
	}
	db.sweep.expires(e.key, e.expiry)
	if !p.found {
		db.keys++
		return db.ix.insert(e.key, e.ref(), p)
	}
	old, err := db.ix.update(p, e.ref())
	if err == nil {
		db.replacedRecords = append(db.replacedRecords, old)
	}
	return err
}

// bury keeps a tombstone, of a key or a range: used, not live, until a checkpoint
// frozen from now on flips (R6).
func (db *DB) bury(e *entry) {
	if db.off(ruleR6) {
		db.replacedRecords = append(db.replacedRecords, e.ref())
		return
	}
	db.tombs = append(db.tombs, e.ref())
}

// count keeps the books of a commit.
func (db *DB) count(es []entry) {
	c := &db.counts
	c.commits++
	for i := range es {
		e := &es[i]
		n := int64(e.rec)
		for _, x := range e.extents {
			n += x.Bytes
		}
		db.sinceCheckpoint += n
		c.recordBytes += uint64(n)
		switch {
		case e.moved:
			db.evac.records++
			db.evac.bytes += uint64(n)
		case e.covered:
			c.deletes++
		case e.kind == kindRange:
			if e.cut != nil {
				c.deletes += uint64(e.cut.keys)
			}
			c.userBytes += uint64(len(e.image) - maxRecHeader)
		case e.kind == kindDelete:
			c.deletes++
			c.userBytes += uint64(len(e.key))
		default:
			c.puts++
			c.userBytes += uint64(len(e.image) - maxRecHeader)
		}
	}
	if db.evac.wake != nil {
		db.noteWaste()
	}
	if db.sinceCheckpoint >= db.opt.CheckpointBytes {
		db.wakeCheckpointer()
		// R11: a writer two intervals past the last freeze waits for one.
		db.behind.Store(db.sinceCheckpoint >= 2*db.opt.CheckpointBytes && !db.off(ruleR11))
	}
}

// refuse tells a store that is full from one whose growth met a failing device:
// what rides on the next fence, carvings among it, may then never be durable.
func (db *DB) refuse(err error) error {
	if errors.Is(err, ErrFull) {
		return err
	}
	return db.fail(err)
}

// fail makes the store refuse writes until it is reopened (R15): what the
// medium holds of the last transaction is not known.
func (db *DB) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if db.off(ruleR15) {
		return err
	}
	db.failure.CompareAndSwap(nil, &err)
	return err
}

// writable returns why the store does not take writes, or nil.
func (db *DB) writable() error {
	switch {
	case db.closed.Load():
		return ErrClosed
	case db.opt.ReadOnly:
		return ErrReadOnly
	}
	if f := db.failure.Load(); f != nil {
		return *f
	}
	return nil
}

// yieldFrom is how many entries make a commit long enough for others to park.
const yieldFrom = 16

// submit commits o's entries, alone or with what others queued. A caller that was
// parked and is woken stands in line for this very CPU: where all of them are busy
// it would get it when the scheduler takes it away, after 10 ms. So whoever commits
// many entries at a time gives it up then.
func (db *DB) submit(o *op) error {
	if !db.turn.take(o) {
		return o.err
	}
	woke := false
	defer func() {
		if woke = db.turn.give() || woke; woke && len(o.entries) >= yieldFrom {
			runtime.Gosched()
		}
	}()
	db.lockReaders()
	defer db.unlockReaders()
	woke = db.serve(o, true)
	for range serveMost {
		w := db.turn.next()
		if w == nil {
			break
		}
		woke = db.serve(w, false) || woke
	}
	return o.err
}

// serveMost is how often one caller commits what others queued meanwhile before
// it hands the turn over: what a commit touches stays in this CPU's cache, and
// nobody works for others for long.
const serveMost = 4

var errInterrupted = errors.New("nvkv: a commit was interrupted")

// serve commits o and its group as one transaction, and tells the group, and o
// unless it is the caller's own. It says whether one of them was parked. A panic on
// the way, a memory fault for instance, fails the store, and nobody is left waiting.
func (db *DB) serve(o *op, own bool) (woke bool) {
	told := 0
	tell := func(err error) {
		o.group[told].err = err
		woke = o.group[told].finish() || woke
		told++
	}
	ended := false
	defer func() {
		if !ended {
			o.err = db.fail(errInterrupted)
			for told < len(o.group) {
				tell(o.err)
			}
		}
		if !own {
			woke = o.finish() || woke
		}
	}()
	o.err = db.commitGroup(o)
	if len(o.group) > 0 && o.err != nil && db.failure.Load() == nil {
		// One of them wants too much: each on its own.
		o.err = db.commit(o.entries)
		for told < len(o.group) {
			tell(db.commit(o.group[told].entries))
		}
	}
	for told < len(o.group) {
		tell(o.err)
	}
	ended = true
	return woke
}

// commitGroup commits the entries of o and of its group together.
func (db *DB) commitGroup(o *op) error {
	if len(o.group) == 0 {
		return db.commit(o.entries)
	}
	if db.off(ruleI2) {
		return db.commitEach(o)
	}
	es := append(db.groupEntries[:0], o.entries...)
	for _, other := range o.group {
		es = append(es, other.entries...)
	}
	one := es
	if !db.off(ruleR1) {
		one = lastPerKey(es)
	}
	err := db.commit(one)
	clear(es)
	db.groupEntries = es[:0]
	return err
}
