package kv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// What a recovery replays is told by the records' checksums alone, and a record
// that has rotted looks like one that a crash tore. But a bit that has turned over,
// or several of one byte, give themselves away: turned back, the record passes. So a
// recovery looks into the slots whose content does not pass for records that are one
// byte from passing.
//
// I61. Such a record is not passed over if it counts: a key whose newest record it
// is answers ErrCorrupt, a key or a range that it deletes is deleted, and Check
// names it. It counts if its transaction is older than the highest that was found,
// or was decided (R4). Of the highest itself nobody knows whether it was fenced:
// there a rotten record makes it void, as a torn one does.
//
// Which byte it is follows from the checksum: it is linear, so the difference between
// what it says and what it should say is that of the wrong bits alone, and a sum can
// be run backwards over the bytes, to where nothing but a byte is left of it. Only
// where the byte is one of those that say how long the record is, each is tried.
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
	record
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
	if binary.LittleEndian.Uint64(slot[recNumber:]) == 0 {
		return
	}
	db := sv.rc.db
	if key, _, end := plainShape(slot); key != 0 && sealed(slot, key, end, db.seed, s.Carve, o) {
		return
	}
	var rec record
	if !rec.parse(slot) || !rec.sealed(slot, db.seed, s.Carve, o) {
		sv.suspect(s, o)
	}
}

// mayCount says whether n, with one byte of it perhaps wrong, may be the number of a
// transaction since the checkpoint. The highest is not known yet.
func (rc *recovery) mayCount(n number) bool {
	near := func(run uint32) bool {
		x := n.run() ^ run
		return x&^0xff == 0 || x&^0xff00 == 0 || x&^0xff0000 == 0
	}
	return near(rc.st.run) || slices.ContainsFunc(rc.st.ended, func(e endedRun) bool { return near(e.run) })
}

// settled says whether a transaction since the checkpoint counts, whatever is found
// of it.
func (rc *recovery) settled(n number) bool {
	counts, undecided := rc.st.counts(n)
	return counts || undecided && n < rc.highest
}

// newest returns the highest number that may count; that of the checkpoint if nothing
// was written since.
func (rc *recovery) newest() number {
	n := max(rc.st.last, rc.highest)
	for _, e := range rc.st.ended {
		n = max(n, makeNumber(e.run, e.last))
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
			if r, ok := rc.db.examine(s, w); ok && !rc.db.remains(s) && !rc.db.off(ruleI61) {
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
// answered: of this one kind of damage they do not know (I60).
func (rc *recovery) lookBack() error {
	db := rc.db
	if !db.ix.mapped || rc.newest() == rc.st.last {
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
		if number(binary.LittleEndian.Uint64(slot[recNumber:])) <= sv.rc.st.last {
			sv.old(s, slot, s.Off+nvmap.Off(o))
		}
	}
	return s.Slots * s.SlotBytes
}

// addRotten makes a rotten record a candidate. Its key is kept with those that
// cannot be read from a slot, and its runs with those that must not be reused (I6):
// the next recovery will look for the same byte, and needs the key that it leads to.
func (rc *recovery) addRotten(sv *salvager, r *rotten) {
	c := candidate{number: r.number, off: r.off, ordinal: r.ordinal, leaf: noLeaf, bytes: uint32(r.size), kind: r.kind, flags: flagRotten}
	switch r.kind {
	case kindPut, kindDelete:
		c.flags |= flagSpillKey
		if rc.bare == nil {
			rc.bare = map[nvmap.Off][]byte{}
		}
		rc.bare[c.off] = r.key
	case kindRange:
		d := deletedRange{rangeAge: rangeAge{r.number, r.ordinal}, start: r.key}
		if r.flags&flagOpen == 0 {
			d.end = append([]byte{}, r.value...)
		}
		rc.deleted = append(rc.deleted, d)
		rc.damage(r.off, rottenRecord, r.key)
	default:
		return // the end of a group that is complete by decision
	}
	if r.spilled() {
		_, list := r.extents()
		rc.rottenRuns = append(rc.rottenRuns, list...)
	}
	sv.blocks = append(sv.blocks, []candidate{c}) // the others' may be being read
}

const rottenRecord = "record with a byte that is wrong"

// wanted are the transactions of which a rotten record is looked for: those in
// (above, upTo] that counts says.
type wanted struct {
	above, upTo number
	counts      func(number) bool
	effort      *atomic.Int64 // bytes that were summed to try lengths
}

// mostEffort is how many bytes are summed to try lengths, a second or so of work: no
// more than a handful of suspects get so far, unless somebody made them.
const mostEffort = 8 << 30

func (w *wanted) number(n number) bool { return n > w.above && n <= w.upTo && w.counts(n) }

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
		if r.record.parse(own) && w.number(r.number) && db.fits(&r.record, s.class) && r.sealed(own, db.seed, s.carve, s.off) {
			r.bits = bits.OnesCount8(wrong)
			return true
		}
		own[at] ^= wrong
		return false
	}
	if at, wrong, found := db.wrongByte(b, s); found && try(bytes.Clone(b), at, wrong) {
		return db.readRotten(r, s)
	}
	if !w.number(number(binary.LittleEndian.Uint64(b[recNumber:]))) {
		return r, false
	}
	own := bytes.Clone(b)
	for _, at := range lengthBytes(b) {
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
	var rec record
	if rec.parse(b[:s.bytes]) {
		h := headerBytes(rec.flags)
		tag := recordSum(db.seed, bodySum(b[h:rec.size]), b[:h], s.carve, s.off) ^ placeTag(db.seed, s.carve, s.off) ^ binary.LittleEndian.Uint32(b)
		for c := max(1, int64(s.carve)-mostCarves); c < int64(s.carve); c++ {
			if placeTag(db.seed, uint32(c), s.off) == tag {
				return true
			}
		}
	}
	if s.carve > 1 {
		return false
	}
	blank := true
	for o := s.bytes; o < len(b); o += s.bytes {
		slot := b[o : o+s.bytes]
		if rec.parse(slot) && rec.sealed(slot, db.seed, s.carve, s.off+nvmap.Off(o)) {
			return false
		}
		blank = blank && bytes.Count(slot, []byte{0}) == len(slot)
	}
	return !blank
}

// lengthBytes returns where what says how long a record is lies: lengths, kind and
// flags, and how many extents a list of runs has.
func lengthBytes(b []byte) (at []int) {
	for o := recValLen; o < recHeader; o++ {
		at = append(at, o)
	}
	if flags := b[recFlags]; flags&flagSpill != 0 {
		o := headerBytes(flags) + 4
		if flags&flagSpillKey == 0 {
			o += int(binary.LittleEndian.Uint16(b[recKeyLen:]))
		}
		if o+2 <= len(b) {
			at = append(at, o, o+1)
		}
	}
	return at
}

// wrongByte returns which byte of a record is wrong, and how, if it is not one of
// those that say how long the record is.
func (db *DB) wrongByte(b []byte, s suspect) (at int, wrong byte, ok bool) {
	var rec record
	if !rec.parse(b) || !db.fits(&rec, s.class) {
		return 0, 0, false
	}
	h := headerBytes(rec.flags)
	sum := recordSum(db.seed, bodySum(b[h:rec.size]), b[:h], s.carve, s.off)
	diff := sum ^ binary.LittleEndian.Uint32(b)
	for at := range recNumber { // of the checksum itself
		if x := diff >> (8 * at); x<<(8*at) == diff && x < 256 {
			return at, byte(x), true
		}
	}
	// The sum takes in the body and then the rest of the header. What its last byte
	// contributes is an entry of the table; each step back takes a byte off.
	for i := rec.size - recNumber - 1; i >= 0; i-- {
		x := crcTop[diff>>24]
		if castagnoli[x] == diff {
			if at = h + i; at >= rec.size {
				at -= rec.size - recNumber
			}
			return at, x, true
		}
		diff = (diff^castagnoli[x])<<8 | uint32(x)
	}
	return 0, 0, false
}

// crcTop is which entry of castagnoli has a top byte: each has another.
var crcTop = func() (top [256]byte) {
	for i, x := range castagnoli {
		top[x>>24] = byte(i)
	}
	return top
}()

// readRotten completes what examine found: the key, wherever it is, and the end of a
// range. A value is nobody's business but a salvage's.
func (db *DB) readRotten(r rotten, s suspect) (rotten, bool) {
	r.off = s.off
	r.key = r.record.key
	switch {
	case !r.spilled():
		return r, true
	case !db.extentsInside(&r.record):
		return r, false
	case r.kind == kindRange:
		if r.valLen > MaxKeyBytes {
			return r, false
		}
		key, value, err := db.readRuns(&r.record, nil)
		r.key, r.value = bytes.Clone(key), bytes.Clone(value)
		return r, err == nil
	case r.flags&flagSpillKey != 0:
		r.key = db.keyInRuns(&r.record)
		return r, r.key != nil
	}
	return r, true
}

// keyInRuns returns the key of a record that has it in runs, nil if the bytes there
// are not the record's.
func (db *DB) keyInRuns(rec *record) []byte {
	if !db.runsWhole(rec) {
		return nil
	}
	key := make([]byte, 0, rec.keyLen)
	_, list := rec.extents()
	for _, e := range list {
		key = append(key, db.bytesAt(e.Off, int(min(e.Bytes, int64(rec.keyLen-len(key)))))...)
	}
	return key
}
