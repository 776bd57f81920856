package kv

import (
	"bytes"
	"math/bits"
	"slices"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A recovery decides by checksums which records count. A record that has rotted looks like one that
// a crash tore. But if only one bit is wrong, or several in one byte, the record passes when these
// are corrected. So a recovery searches the slots that do not pass for records that are one byte
// from passing.
//
// I18. A rotten record that counts is not passed over. If it is the newest record of a key, the key
// answers ErrCorrupt. A key or a range that it deletes is deleted. Check names it. It counts if its
// transaction is older than the highest one found, or was decided (R4). For the highest transaction
// nothing shows whether it was fenced, so there a rotten record makes the transaction void, as a
// torn one does.
//
// The checksum tells which byte is wrong, see Record.WrongByte. Only bytes that state a length must
// be tried one by one.
//
// A torn slot may be one byte from its earlier record, if the two records are similar. That record
// was superseded before its slot was reused, so it loses against a newer record, a tombstone or a
// range. Bytes from before the slab was carved could pass for a rotten record by chance: see
// remains.
//
// The byte is not corrected on the medium, and the value is not returned. In a record of 100 bytes
// some correction of one byte makes any damage pass by chance once in a hundred thousand times, of
// one bit once in four million. The checksum alone errs once in four thousand million. Salvage
// corrects a single bit and says so.

// suspect is a slot with content that does not pass.
type suspect struct {
	off   nvmap.Off
	end   nvmap.Off // end of the slots of its slab
	bytes int
	class alloc.ClassID
	carve uint32
}

// rotten is a record that was one byte from passing, corrected, with its key wherever it lies. Its
// slices are copies.
type rotten struct {
	record.Record
	key  []byte
	bits int // how many bits were wrong
}

// flagRotten marks candidates that do not pass. It is never on the medium.
const flagRotten = 1 << 7

// suspect records a slot that does not pass.
func (sv *salvager) suspect(s alloc.SlabInfo, o nvmap.Off) {
	sv.suspects = append(sv.suspects, suspect{off: o, end: s.Off + nvmap.Off(s.Slots*s.SlotBytes), bytes: s.SlotBytes, class: s.Class, carve: s.Carve})
}

// old checks a slot whose number is not above the checkpoint's. Most such slots pass; others were
// never written, or hold bytes from before the slab was carved.
func (sv *salvager) old(s alloc.SlabInfo, slot []byte, o nvmap.Off) {
	if record.NumberOf(slot) == 0 {
		return
	}
	db := sv.rc.db
	var p record.Plain
	if p.Parse(slot, db.seed, s.Carve, o) {
		return
	}
	var rec record.Record
	if !rec.Parse(slot) || !rec.Sealed(slot, db.seed, s.Carve, o) {
		sv.suspect(s, o)
	}
}

// mayCount says whether n may be the number of a transaction since the checkpoint, if one byte of n
// may be wrong. The highest transaction is not known yet.
func (rc *recovery) mayCount(n record.Number) bool {
	return n.NearRun(rc.st.run) || slices.ContainsFunc(rc.st.ended, func(e endedRun) bool { return n.NearRun(e.run) })
}

// settled says whether a transaction since the checkpoint counts whatever is found of it.
func (rc *recovery) settled(n record.Number) bool {
	counts, undecided := rc.st.counts(n)
	return counts || undecided && n < rc.highest
}

// newest returns the highest number that may count, or the checkpoint's if nothing was written
// since.
func (rc *recovery) newest() record.Number {
	n := max(rc.st.last, rc.highest)
	for _, e := range rc.st.ended {
		n = max(n, record.MakeNumber(e.run, e.last))
	}
	return n
}

// findRotten examines the suspects so far and adds the rotten records that count to the candidates.
// The highest transaction is known by then.
func (rc *recovery) findRotten() error {
	w := wanted{above: rc.st.last, upTo: rc.newest(), counts: rc.settled, effort: new(atomic.Int64)}
	found := make([][]rotten, len(rc.salvagers))
	err := rc.share(func(n int) error {
		sv := &rc.salvagers[n]
		for _, s := range sv.suspects {
			if r, ok := rc.db.examine(s, w); ok && !rc.db.remains(s) && !rc.db.off(ruleI18) {
				found[n] = append(found[n], r)
			}
		}
		sv.suspects = nil
		return nil
	})
	ranges := len(rc.deleted)
	for n := range found {
		for i := range found[n] {
			rc.addRotten(&rc.salvagers[n], &found[n][i])
		}
	}
	if len(rc.deleted) > ranges {
		rc.ranges = paint(rc.deleted)
	}
	return err
}

// lookBack does the same for slots whose number is not above the checkpoint's, because the wrong
// byte may be in the number. It reads these slots as a whole, most of them in vain, so it runs
// after the first point reads are answered. Those answers do not cover this kind of damage (I17).
func (rc *recovery) lookBack() error {
	db := rc.db
	if !db.ix.Mapped() || rc.newest() == rc.st.last {
		return nil
	}
	slabs := db.r.Marked(rc.st.interval)
	var next atomic.Int64
	err := rc.share(func(w int) error {
		sv := &rc.salvagers[w]
		for {
			from := int(next.Add(scanStride)) - scanStride
			if from >= len(slabs) {
				return nil
			}
			for _, s := range slabs[from:min(from+scanStride, len(slabs))] {
				for o := 0; o < s.Slots*s.SlotBytes; {
					o = sv.lookBack(s, o)
				}
			}
		}
	})
	if err != nil {
		return err
	}
	return rc.findRotten()
}

// lookBack checks the slots of a slab from offset o on. It returns the offset at which to continue:
// the end, or the slot behind one that cannot be read, which scan has reported.
func (sv *salvager) lookBack(s alloc.SlabInfo, o int) (next int) {
	db := sv.rc.db
	defer func() {
		if r := recover(); r != nil {
			if db.fault(r, "recover") == nil {
				panic(r)
			}
			next = o + s.SlotBytes
		}
	}()
	b := db.bytesAt(s.Off, s.Slots*s.SlotBytes)
	for ; o < len(b); o += s.SlotBytes {
		slot := b[o : o+s.SlotBytes]
		if record.NumberOf(slot) <= sv.rc.st.last {
			sv.old(s, slot, s.Off+nvmap.Off(o))
		}
	}
	return s.Slots * s.SlotBytes
}

// addRotten makes a rotten record a candidate. Its key goes to rc.bare, like other keys that are
// not in their slots, and its runs to rc.heldRuns, so that they are not reused (I6): the next
// recovery will find the same byte and need the key.
func (rc *recovery) addRotten(sv *salvager, r *rotten) {
	c := candidate{number: r.Number, off: r.Off, ordinal: r.Ordinal, leaf: noLeaf, bytes: uint32(r.Size), kind: r.Kind, flags: flagRotten}
	switch r.Kind {
	case record.KindPut, record.KindDelete:
		c.flags |= record.FlagSpillKey
		if rc.bare == nil {
			rc.bare = map[nvmap.Off][]byte{}
		}
		rc.bare[c.off] = r.key
	case record.KindRange:
		d := deletedRange{rangeAge: rangeAge{r.Number, r.Ordinal}, start: r.key}
		if r.Flags&record.FlagOpen == 0 {
			d.end = append([]byte{}, r.Value...)
		}
		rc.deleted = append(rc.deleted, d)
		rc.damage(r.Off, rottenRecord, r.key)
	default:
		return // the end of a group that was decided to be complete
	}
	if r.Spilled() {
		l, _ := rc.db.runs(&r.Record)
		rc.heldRuns = append(rc.heldRuns, l.Extents...)
	}
	sv.blocks = append(sv.blocks, []candidate{c}) // others may read the existing blocks
}

const rottenRecord = "record with a byte that is wrong"

// wanted are the transactions for which rotten records are searched: those in (above, upTo] for
// which counts is true.
type wanted struct {
	above, upTo record.Number
	counts      func(record.Number) bool
	effort      *atomic.Int64 // bytes summed in order to try lengths
}

// mostEffort bounds the bytes that are summed to try lengths: about a second of work. Few suspects
// need it, unless somebody made them.
const mostEffort = 8 << 30

func (w *wanted) number(n record.Number) bool { return n > w.above && n <= w.upTo && w.counts(n) }

// examine searches a suspect for one wrong byte that keeps it from being a wanted record.
func (db *DB) examine(s suspect, w wanted) (r rotten, ok bool) {
	var err error
	defer db.guarded("recover", panicOnFault(true), &err) // an unreadable slot is not rotten
	b := db.bytesAt(s.off, s.bytes)
	if b == nil {
		return r, false
	}
	try := func(own []byte, at int, wrong byte) bool {
		own[at] ^= wrong
		if r.Record.Parse(own) && w.number(r.Number) && db.fits(&r.Record, s.class) && r.Sealed(own, db.seed, s.carve, s.off) {
			r.bits = bits.OnesCount8(wrong)
			return true
		}
		own[at] ^= wrong
		return false
	}
	if r.Record.Parse(b) && db.fits(&r.Record, s.class) {
		if at, wrong, found := r.WrongByte(b, db.seed, s.carve, s.off); found && try(bytes.Clone(b), at, wrong) {
			return db.readRotten(r, s)
		}
	}
	if !w.number(record.NumberOf(b)) {
		return r, false
	}
	own := bytes.Clone(b)
	for _, at := range record.LengthBytes(b) {
		for wrong := 1; wrong < 256; wrong++ {
			if try(own, at, byte(wrong)) {
				return db.readRotten(r, s)
			}
		}
		if w.effort.Add(256*int64(len(b))) > mostEffort {
			break
		}
	}
	return r, false
}

// remains says whether a suspect may hold bytes from before its slab was carved. They may be a
// record of an earlier carving, with whose carve number they pass. Or they may be of an earlier
// owner of the medium, if no record of this store lies behind them in the slab: slots are handed
// out in the order of their offsets, so behind a slot that was never written there is no record of
// this store. If the medium was blank, the rest is zero.
func (db *DB) remains(s suspect) (yes bool) {
	var err error
	defer func() { yes = yes || err != nil }()
	defer db.guarded("recover", panicOnFault(true), &err)
	b := db.bytesAt(s.off, int(s.end-s.off))
	var rec record.Record
	if rec.Parse(b[:s.bytes]) {
		if _, earlier := rec.CarveOf(b, db.seed, s.off, max(1, int64(s.carve)-mostCarves), int64(s.carve)); earlier {
			return true
		}
	}
	if s.carve > 1 {
		return false
	}
	blank := true
	for o := s.bytes; o < len(b); o += s.bytes {
		slot := b[o : o+s.bytes]
		if rec.Parse(slot) && rec.Sealed(slot, db.seed, s.carve, s.off+nvmap.Off(o)) {
			return false
		}
		blank = blank && bytes.Count(slot, []byte{0}) == len(slot)
	}
	return !blank
}

// readRotten completes the result of examine: it reads the key wherever it lies, and the end of a
// range. Only Salvage needs values.
func (db *DB) readRotten(r rotten, s suspect) (rotten, bool) {
	r.Off = s.off
	r.key = r.Record.Key
	switch {
	case !r.Spilled():
		return r, true
	case !db.extentsInside(&r.Record):
		return r, false
	case r.Kind == record.KindRange:
		key, value, err := db.readRuns(&r.Record, nil)
		r.key, r.Value = bytes.Clone(key), bytes.Clone(value)
		return r, err == nil
	case r.Flags&record.FlagSpillKey != 0:
		r.key = db.keyInRuns(&r.Record)
		return r, r.key != nil
	}
	return r, true
}
