package kv

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// entry is one operation on its way to the medium.
type entry struct {
	kind    byte
	image   []byte // room for a header, then the body
	key     []byte // in image
	sum     uint32 // checksum of the body, computed before the turn
	expiry  int64
	open    bool             // a range without end
	spill   bool             // the value goes to runs
	bare    bool             // the key too
	moved   bool             // by the evacuator: nobody's put
	lent    []byte           // the value, where it is the caller's own and not in image
	list    []byte           // body of a spilled record: the key unless bare, then the run list
	levels  [][]alloc.Extent // what holds the bytes in runs, then the list of that, and so on; the last one's is in list
	extents []alloc.Extent   // all of them
	cut     *btree.Cutting   // of a range
	off     nvmap.Off
	rec     int // bytes in the slot
}

func (e *entry) value() []byte {
	if e.lent != nil {
		return e.lent
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// bodyBytes is how long key and value are.
func (e *entry) bodyBytes() int { return len(e.image) - record.MaxHeaderBytes + len(e.lent) }

// prepare does what needs no turn: the checksum of the body. It refuses what no
// record can hold: a recovery would take it for torn, with all of its transaction.
func (db *DB) prepare(e *entry) error {
	if err := e.checkSizes(); err != nil {
		return err
	}
	body := e.image[record.MaxHeaderBytes:]
	e.spill = e.bodyBytes()+record.MaxHeaderBytes > db.r.LargestSlot()
	e.bare = e.spill && len(e.key) > db.r.LargestSlot()/4
	if e.spill {
		body = e.inRuns()
	}
	if e.lent == nil {
		e.sum = record.BodySum(body)
	}
	return nil
}

// checkSizes says whether a record can hold the entry.
func (e *entry) checkSizes() error {
	if e.kind == record.KindRange && len(e.value()) > record.MaxRangeEnd {
		return ErrKeyTooLarge
	}
	return checkSizes(len(e.key), len(e.value()))
}

func (e *entry) flags(multi bool) (f byte) {
	if multi {
		f |= record.FlagMulti
	}
	if e.expiry != 0 {
		f |= record.FlagExpiry
	}
	if e.open {
		f |= record.FlagOpen
	}
	if e.spill {
		f |= record.FlagSpill
		if e.bare {
			f |= record.FlagSpillKey
		}
	}
	return f
}

// inRuns returns what of the image of a spilled entry lies in runs.
func (e *entry) inRuns() []byte {
	if e.bare {
		return e.image[record.MaxHeaderBytes:]
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// inline returns what of the key of a spilled entry stands beside the run list.
func (e *entry) inline() []byte {
	if e.bare {
		return nil
	}
	return e.key
}

// runBytes is how many bytes of a spilled entry lie in runs.
func (e *entry) runBytes() int64 { return int64(e.bodyBytes() - len(e.inline())) }

// ref is what the index stores for e.
func (e *entry) ref() btree.Ref {
	r := e.off
	if e.spill {
		r |= btree.RefSpill
	}
	if e.expiry != 0 {
		r |= btree.RefTTL
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
	if err = db.writable(); err == nil {
		err = db.endGroupBefore()
	}
	if err != nil {
		return err
	}
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	return db.commitInside(es)
}

// commitInside is commit in a section. It defers nothing: with so many ways out of a function that
// costs more.
func (db *DB) commitInside(es []entry) error {
	es, err := db.dropAbsent(es)
	if len(es) == 0 || err != nil {
		return err
	}
	db.noteNeed()
	db.spots.all = db.spots.all[:0]
	n, err := db.needFor(es)
	if err != nil {
		return err
	}
	frames := n.Pages + n.Blocks
	private := db.shownAtOnce(es) || frames > db.m.CacheFrames()/8
	if private {
		frames = db.framesOfOne()
	}
	if err := db.roomFor(frames); err != nil {
		return db.fail(err)
	}
	err = db.reserveAndStore(es, n, givesBack(es))
	if full(err) && !db.off(ruleI1) {
		err = db.storeTightly(es, err)
	}
	if err != nil {
		return db.explain(err, es)
	}
	// The descent overlaps the drain of the stores: the fence waits for them,
	// loads do not.
	single := len(es) == 1 && !private && es[0].kind != record.KindRange
	if single {
		if err := db.ix.Find(es[0].key, &db.way); err != nil {
			return db.fail(err)
		}
	}
	if err := db.endCommit(); err != nil {
		return db.fail(err)
	}
	if single {
		err = db.publishOne(&es[0])
	} else {
		err = db.publishAll(es, private)
	}
	if err != nil {
		return db.fail(err)
	}
	db.ix.KeepStock()
	db.count(es)
	db.pressed()
	return db.countGroup(es)
}

// reserveAndStore takes all that publishing the entries needs, gives them their
// places, all of that before the first is written (I1), and writes them. With kept
// pages and blocks may be some of those that are kept for who gives space back.
func (db *DB) reserveAndStore(es []entry, n btree.Stock, kept bool) error {
	urgent := givesBack(es)
	had, closing := db.ix.Reserved(), db.group.closing
	err := db.ix.Reserve(n.Pages, n.Blocks, kept)
	if db.off(ruleI1) && err == nil {
		if err = db.openGroup(urgent); err == nil {
			return db.storeAsPlaced(es, urgent)
		}
	}
	if err == nil {
		err = db.placeAndClose(es, urgent)
	}
	if err != nil {
		db.takeBack(had, closing)
		return db.refuse(err)
	}
	if err := db.store(es); err != nil {
		return db.fail(err)
	}
	return nil
}

// storeTightly is reserveAndStore for a commit that a full store refused, which says
// why. It reserves what the entries take in this tree. Where that is copies of pages
// alone, they may be of what is kept: the next checkpoint frees what they replace
// (A13), unless a snapshot pins it.
func (db *DB) storeTightly(es []entry, why error) error {
	n, grows, err := db.planned(es)
	if err != nil {
		return err
	}
	kept := givesBack(es) || !grows && !db.snapshots()
	if len(es) > 1 && kept == givesBack(es) {
		return why // it was planned so before
	}
	return db.reserveAndStore(es, n, kept)
}

// snapshots says whether there are any.
func (db *DB) snapshots() bool {
	db.publish.Lock()
	defer db.publish.Unlock()
	return newestSnapshot(db.holders.newest) != nil
}

// placeAndClose gives the entries their places, and then their group one for its
// closing record, which is small and fits what is left.
func (db *DB) placeAndClose(es []entry, urgent bool) error {
	err := db.place(es, urgent && !moves(es)) // moves find room between what is there
	if err != nil {
		return err
	}
	if err = db.openGroup(urgent); err != nil {
		for i := range es {
			db.unplace(&es[i])
		}
	}
	return err
}

// explain says of a refused commit that gives space back what it was refused by.
func (db *DB) explain(err error, es []entry) error {
	if !full(err) || !givesBack(es) || moves(es) {
		return err
	}
	if len(es) == 1 {
		return fmt.Errorf("%w, and what is kept there for deletes does not hold this one", err)
	}
	return fmt.Errorf("%w, and what is kept there for deletes does not hold %d of them at once: delete in smaller transactions, or a range with DeleteRange", err, len(es))
}

// takeBack undoes what a refused commit took: had was reserved before, and closing
// was the slot for the closing record.
func (db *DB) takeBack(had btree.Stock, closing nvmap.Off) {
	if db.group.closing != closing {
		db.account(db.r.Return(db.group.closing))
		db.group.closing = closing
	}
	db.ix.KeepReserved(had)
	db.r.ReleaseEmpty()
}

// guardedCommit is guarded for a commit: how far it came is not known.
func (db *DB) guardedCommit(old bool, err *error) {
	panicOnFault(old)
	if r := recover(); r != nil {
		*err = db.interrupted(r)
	}
}

// givesBack says whether a commit leaves more room than it takes: deletes, and
// moves out of sparse slabs.
func givesBack(es []entry) bool {
	for i := range es {
		if es[i].kind != record.KindDelete && es[i].kind != record.KindRange && !es[i].moved {
			return false
		}
	}
	return true
}

// moves says whether a commit that gives back moves records.
func moves(es []entry) bool { return es[0].moved }

// dropAbsent takes out deletes of keys that are not there: they need no record.
// If such a key was deleted before, that was fenced before it was published.
// Likewise ranges, if no key is left that they delete. It leaves es as it is: a
// commit that finds the store full is tried again.
func (db *DB) dropAbsent(es []entry) ([]entry, error) {
	n := rangesOf(es)
	cuts, err := db.dropAbsentRanges(es[:n])
	if err != nil {
		return nil, err
	}
	out, err := db.dropAbsentKeys(es[n:])
	switch {
	case n == 0 || err != nil:
		return out, err
	case len(cuts) == n && len(out) == len(es)-n:
		return es, nil
	}
	return append(slices.Clip(cuts), out...), nil
}

func (db *DB) dropAbsentKeys(es []entry) ([]entry, error) {
	out := es
	dropped := false
	for i := range es {
		if es[i].kind == record.KindDelete {
			if err := db.ix.Find(es[i].key, &db.way); err != nil {
				return nil, err
			}
			if !db.way.Found() {
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

// framesOfOne returns how many frames publishing an entry can make at most.
func (db *DB) framesOfOne() int {
	return 4*db.ix.Height() + 4 + 16 + 2*btree.OverflowPages(MaxKeyBytes)
}

// endInside ends the section of a commit.
func (db *DB) endInside() {
	if s := db.inside; s != nil {
		db.inside = nil
		s.LeaveInside()
	}
}

// place gives every entry its slot, and its runs. It takes nothing on failure. What
// is kept for those who give back may have no slab for each class: then the largest
// records come first, and those below them find what is left of larger slots.
func (db *DB) place(es []entry, urgent bool) error {
	err := db.placeInOrder(es, nil, urgent)
	if urgent && len(es) > 1 && full(err) {
		order := make([]int, len(es))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(es[b].bodyBytes(), es[a].bodyBytes()) })
		err = db.placeInOrder(es, order, urgent)
	}
	return err
}

// placeInOrder places the entries in an order; nil: as they come.
func (db *DB) placeInOrder(es []entry, order []int, urgent bool) error {
	multi := len(es) > 1 || db.grouped()
	at := func(i int) *entry {
		if order == nil {
			return &es[i]
		}
		return &es[order[i]]
	}
	for i := range es {
		if err := db.placeOne(at(i), multi, urgent); err != nil {
			for j := range i {
				db.unplace(at(j))
			}
			return err
		}
	}
	return nil
}

func (db *DB) placeOne(e *entry, multi, urgent bool) error {
	if e.spill {
		if err := db.placeRuns(e, urgent); err != nil {
			return err
		}
	}
	for {
		err := db.placeRecord(e, multi, urgent)
		if errors.Is(err, ErrFull) && e.spill && !urgent && db.listElsewhere(e) {
			continue // a list that is shorter may find a slot
		}
		if err != nil {
			db.freeRuns(e)
		}
		return err
	}
}

// placeRecord takes the slot of a record whose runs are placed.
func (db *DB) placeRecord(e *entry, multi, urgent bool) (err error) {
	e.rec = record.HeaderLen(e.flags(multi))
	if e.spill {
		e.rec += e.listBody()
	} else {
		e.rec += len(e.image) - record.MaxHeaderBytes
	}
	class, ok := db.r.ClassFor(e.rec)
	if !ok {
		return fmt.Errorf("nvkv: record of %d bytes has no class", e.rec)
	}
	e.off, err = db.r.AllocRecord(class, urgent)
	return err
}

func (db *DB) unplace(e *entry) {
	db.account(db.r.Return(e.off))
	db.freeRuns(e)
}

// store writes the records, and the marks of their slabs (R5), unfenced.
func (db *DB) store(es []entry) error {
	if db.counter == record.MaxCounter {
		return fmt.Errorf("nvkv: run %d has used up its %d numbers", db.run, uint64(record.MaxCounter))
	}
	ordinal, count := 0, len(es)
	if db.grouped() {
		ordinal, count = int(db.group.records), 0
	}
	if ordinal == 0 {
		db.counter++
	}
	for i := range es {
		e := &es[i]
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
	h := record.HeaderLen(flags)
	img, sum := e.image[record.MaxHeaderBytes-h:], e.sum
	if e.spill {
		img = append(make([]byte, h, h+len(e.list)), e.list...)
		sum = record.BodySum(e.list)
	}
	rec := record.Record{Number: record.MakeNumber(db.run, db.counter), Kind: e.kind, Flags: flags, Ordinal: uint32(ordinal), Count: uint32(count), Expiry: e.expiry, KeyLen: len(e.key), ValLen: len(e.value())}
	rec.PutHeader(img)
	carve, _, _ := db.r.Carve(e.off, alloc.KindRecord)
	rec.Seal(img, sum, db.seed, carve, e.off)
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

// publishOne shows a single record. The tree has not changed since db.way was
// found; the epoch may have, and every change looks at it.
func (db *DB) publishOne(e *entry) error {
	return db.change(func() error {
		if err := db.apply(e, &db.way); err != nil {
			return err
		}
		db.published(1)
		return nil
	})
}

// defaultPrivateFrom is how many records are shown by a root swap. Fewer are
// shown one by one under the store-wide counter, during which point reads wait.
// Where they lie far apart, a root swap copies a leaf of 5 KiB for nearly every
// one of them; the bound was chosen by that, not by a measurement of its own.
const defaultPrivateFrom = 1024

// shownAtOnce says whether es are shown by a root swap: where they are many, or pages
// leave as a whole.
func (db *DB) shownAtOnce(es []entry) bool {
	n := len(es)
	for i := range es[:rangesOf(es)] {
		if es[i].cut.Whole() {
			return true
		}
		n += es[i].cut.Single()
	}
	return n >= db.opt.privateFrom
}

func (db *DB) publishAll(es []entry, private bool) error {
	if private {
		return db.publishBeside(es)
	}
	return db.change(func() error {
		db.showing.Add(1)
		n := len(es)
		for i := range es {
			if err := db.publishAt(&es[i], db.spots.of(i, len(es), &db.ix)); err != nil {
				return err
			}
			if es[i].kind == record.KindRange {
				n += es[i].cut.Single()
			}
		}
		db.showing.Add(1)
		db.published(n)
		return nil
	})
}

// publishAt is publishEntry for an entry whose spot is known; nil: it is not.
func (db *DB) publishAt(e *entry, s *btree.Spot) error {
	if s != nil && e.kind == record.KindPut {
		old, ok, err := db.ix.UpdateAt(s, e.ref())
		if err != nil {
			return err
		}
		if ok {
			db.reached(e)
			db.replacedRecords = append(db.replacedRecords, old)
			return nil
		}
	}
	return db.publishEntry(e)
}

// publishEntry shows an entry in the tree. Of a range these are the keys that do not
// leave with whole pages.
func (db *DB) publishEntry(e *entry) error {
	if e.kind == record.KindRange {
		db.bury(e)
		return db.cutRest(e.cut)
	}
	if err := db.ix.Find(e.key, &db.way); err != nil {
		return err
	}
	return db.apply(e, &db.way)
}

// published ends a publication of n entries: what left the tree may be freed now.
func (db *DB) published(n int) {
	db.nowVisible()
	for _, x := range db.replacedRecords {
		db.supersede(x, db.holders.newest)
	}
	db.replacedRecords = db.replacedRecords[:0]
	db.reclaimBeside(n)
}

func (db *DB) nowVisible() {
	db.visible = record.MakeNumber(db.run, db.counter)
	db.dirtySince = true
}

// apply changes the index by one entry.
func (db *DB) apply(e *entry, p *btree.Path) error {
	if e.kind == record.KindDelete {
		if !p.Found() { // it was there when the commit began
			return db.ix.Misplaced(p)
		}
		old, err := db.ix.Remove(p)
		if err != nil {
			return err
		}
		db.keys--
		db.bury(e)
		db.replacedRecords = append(db.replacedRecords, old)
		return nil
	}
	db.reached(e)
	if !p.Found() {
		db.keys++
		return db.ix.Insert(e.key, e.ref(), p)
	}
	old, err := db.ix.Update(p, e.ref())
	if err == nil {
		db.replacedRecords = append(db.replacedRecords, old)
	}
	return err
}

// reached notes that the index reaches a put from now on.
func (db *DB) reached(e *entry) {
	db.account(db.r.SetLive(e.off))
	for _, x := range e.extents {
		db.account(db.r.SetLiveRun(x))
	}
	db.sweep.expires(e.key, e.expiry)
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
		case e.kind == record.KindRange:
			c.deletes += uint64(e.cut.Keys())
			c.userBytes += uint64(e.bodyBytes())
		case e.kind == record.KindDelete:
			c.deletes++
			c.userBytes += uint64(len(e.key))
		default:
			c.puts++
			c.userBytes += uint64(e.bodyBytes())
		}
	}
	if db.evac.wake != nil {
		db.noteWaste()
	}
	if db.counter >= db.opt.renewAt && db.run < record.MaxRun {
		db.behind.Store(true) // until a freeze has begun the next run
		return
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
