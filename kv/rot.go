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

// What a recovery replays is told by the records' checksums alone, and a record
// that has rotted looks like one that a crash tore. But a bit that has turned over,
// or several of one byte, give themselves away: turned back, the record passes. So a
// recovery looks into the slots whose content does not pass for records that are one
// byte from passing.
//
// I18. Such a record is not passed over if it counts: a key whose newest record it
// is answers ErrCorrupt, a key or a range that it deletes is deleted, and Check
// names it. It counts if its transaction is older than the highest that was found,
// or was decided (R4). Of the highest itself nobody knows whether it was fenced:
// there a rotten record makes it void, as a torn one does.
//
// Which byte it is follows from the checksum, see wrongByte. Only where the byte is one
// of those that say how long the record is, each is tried.
//
// A slot that a crash tore can be one byte from what it held before, too, if what
// was written there last was much the same. That record was superseded before its
// slot was reused, and loses against a newer one, a tombstone or a range. What was in a
// slot before its slab was carved could be taken for a rotten record by chance: see
// remains.
//
// The bits are not turned back on the medium, and the value is not served: in a
// record of 100 bytes some byte makes any damage pass by chance once in a hundred
// thousand times, some bit once in four million, where the checksum alone errs once
// in four thousand million. Who salvages a store is told the value if it is one bit,
// and that it is.

// suspect is a slot with something in it that does not pass.
type suspect struct {
	off   nvmap.Off
	end   nvmap.Off // of the slots of its slab
	bytes int
	class alloc.ClassID
	carve uint32
}

// rotten is a record one byte from passing, as it was, with the key wherever it lies.
// Its slices are its own.
type rotten struct {
	record.Record
	key  []byte
	bits int // that had turned over
}

// flagRotten marks candidates that do not pass. It is never on the medium.
const flagRotten = 1 << 7

// suspect notes a slot that does not pass.
func (sv *salvager) suspect(s alloc.SlabInfo, o nvmap.Off) {
	sv.suspects = append(sv.suspects, suspect{off: o, end: s.Off + nvmap.Off(s.Slots*s.SlotBytes), bytes: s.SlotBytes, class: s.Class, carve: s.Carve})
}

// old looks at a slot whose number is not above the checkpoint's. Most pass, and the
// rest was never written, or before the slab was carved.
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

// mayCount says whether n, with one byte of it perhaps wrong, may be the number of a
// transaction since the checkpoint. The highest is not known yet.
func (rc *recovery) mayCount(n record.Number) bool {
	return n.NearRun(rc.st.run) || slices.ContainsFunc(rc.st.ended, func(e endedRun) bool { return n.NearRun(e.run) })
}

// settled says whether a transaction since the checkpoint counts, whatever is found
// of it.
func (rc *recovery) settled(n record.Number) bool {
	counts, undecided := rc.st.counts(n)
	return counts || undecided && n < rc.highest
}

// newest returns the highest number that may count; that of the checkpoint if nothing
// was written since.
func (rc *recovery) newest() record.Number {
	n := max(rc.st.last, rc.highest)
	for _, e := range rc.st.ended {
		n = max(n, record.MakeNumber(e.run, e.last))
	}
	return n
}

// findRotten adds the rotten records that count, of those that were met so far, to
// the candidates. The highest transaction is known.
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

// lookBack does the same for slots whose number says that they are older than the
// checkpoint: a byte of the number may be what is wrong. All of a slot has to
// be read for that, most of them in vain, so it is not done before point reads are
// answered: of this one kind of damage they do not know (I17).
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

// lookBack looks at the slots of a slab from offset o on, and returns where to go on:
// behind the last, or behind one that cannot be read, of which scan has told.
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

// addRotten makes a rotten record a candidate. Its key is kept with those that
// cannot be read from a slot, and its runs with those that must not be reused (I6):
// the next recovery will look for the same byte, and needs the key that it leads to.
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
		return // the end of a group that is complete by decision
	}
	if r.Spilled() {
		l, _ := rc.db.runs(&r.Record)
		rc.heldRuns = append(rc.heldRuns, l.Extents...)
	}
	sv.blocks = append(sv.blocks, []candidate{c}) // the others' may be being read
}

const rottenRecord = "record with a byte that is wrong"

// wanted are the transactions of which a rotten record is looked for: those in
// (above, upTo] that counts says.
type wanted struct {
	above, upTo record.Number
	counts      func(record.Number) bool
	effort      *atomic.Int64 // bytes that were summed to try lengths
}

// mostEffort is how many bytes are summed to try lengths, a second or so of work: no
// more than a handful of suspects get so far, unless somebody made them.
const mostEffort = 8 << 30

func (w *wanted) number(n record.Number) bool { return n > w.above && n <= w.upTo && w.counts(n) }

// examine looks for the byte of a suspect that keeps it from being a record that is
// wanted.
func (db *DB) examine(s suspect, w wanted) (r rotten, ok bool) {
	var err error
	defer db.guarded("recover", panicOnFault(true), &err) // a slot that cannot be read is none
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

// remains says whether a suspect may be what was in its slot before the slab was
// carved: of an earlier carving, whose checksum it passes, or of whoever had the medium
// before, where nothing of this store lies behind it in the slab. Slots are handed out
// in the order of their places, so what lies behind one that was never written is not
// of this store either. On a medium that was blank it is zero.
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

// readRotten completes what examine found: the key, wherever it is, and the end of a
// range. A value is nobody's business but a salvage's.
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
