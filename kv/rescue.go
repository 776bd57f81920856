package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Rescued is a record that Salvage found. Its slices are good until the call
// that got it returns.
type Rescued struct {
	Key, Value []byte
	Expires    time.Time // zero: never
	// Stray says that no index named the record: it is the newest one of its key
	// that could be read, where what the index said is lost. The key may have had
	// a newer value, or have been deleted.
	Stray bool
	// Mended says that one bit of the record had turned over, and was turned back:
	// with it the checksum holds, as it would by chance in one record among some
	// millions of small ones, or thousands of large ones, that are damaged worse.
	Mended bool
}

// SalvageReport says what Salvage did.
type SalvageReport struct {
	Indexed int64        // records that the index named
	Stray   int64        // records found without it
	Mended  int64        // of those that the index named, one bit was turned back
	Lost    int64        // keys that the index names and that no record was found for
	Damage  []CheckIssue // what could not be read
}

// Salvage reads what can be read of a damaged store at path and calls rescue for
// each key once. The store is not changed, and needs nobody's repair: where its
// index stands it is walked, and where a part of it does not, every slot of the
// store is looked at for records that certify themselves, of which the newest of
// a key wins. Memory grows with the number of keys that are looked for so.
//
// An error of rescue ends it. Damage is no error; if so little is left that no
// record can be told, that is.
func Salvage(ctx context.Context, path string, opts *Options, rescue func(Rescued) error) (SalvageReport, error) {
	o := opts.withDefaults()
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, ReadOnly: true})
	if err != nil {
		return SalvageReport{}, fmt.Errorf("salvage %s: %w", path, err)
	}
	report, err := SalvageDevice(ctx, dev, opts, rescue)
	if err != nil {
		err = fmt.Errorf("salvage %s: %w", path, err)
	}
	return report, errors.Join(err, dev.Close())
}

// SalvageDevice is Salvage of a store on a device of the caller's, which is not
// closed.
func SalvageDevice(ctx context.Context, dev nvmap.Device, opts *Options, rescue func(Rescued) error) (SalvageReport, error) {
	r := &rescuer{ctx: ctx, rescue: rescue, now: now(), newest: map[string]stray{}}
	o := opts.withDefaults()
	o.ReadOnly = true
	db, err := OpenDevice(borrowed{dev}, &o)
	if err == nil {
		// Recovery has applied all that counts: nothing is newer than its index.
		r.db, r.last = db, math.MaxUint64
		for _, d := range db.recovered.damaged {
			r.damaged(nvmap.Off(d.Off), d.Structure, "met by recovery")
		}
		return r.report, errors.Join(r.all(db.ix.root), db.Close())
	}
	r.damaged(0, "store", err.Error())
	m, err := nvmap.NewMap(borrowed{dev}, nil)
	if err != nil {
		return r.report, err
	}
	return r.report, errors.Join(r.damagedStore(m, o), m.Close())
}

// borrowed is a device that is somebody else's to close.
type borrowed struct{ nvmap.Device }

func (borrowed) Close() error { return nil }

// rescuer is a salvage under way.
type rescuer struct {
	ctx    context.Context
	db     *DB
	rescue func(Rescued) error
	report SalvageReport
	now    int64
	last   number           // the index contains transactions up to it
	gaps   []gap            // where the index does not stand, ascending
	newest map[string]stray // of the keys that are looked for
	effort atomic.Int64     // see wanted
}

// gap is a range of keys; a nil high has no end.
type gap struct {
	low, high []byte
	lost      bool // a single key, which the index names
}

// stray is the newest record of a key that was found.
type stray struct {
	number  number
	ordinal uint32
	off     nvmap.Off
	kind    byte
}

func (r *rescuer) damaged(o nvmap.Off, what, msg string) {
	r.report.Damage = append(r.report.Damage, CheckIssue{Off: uint64(o), Structure: what, Msg: msg})
}

// damagedStore rescues from a store that does not open: from the index of its
// last checkpoint, as far as it stands, and from the records since.
func (r *rescuer) damagedStore(m *nvmap.Map, o Options) error {
	region, err := alloc.OpenDamaged(m, func(e *alloc.CorruptError) { r.damaged(e.Off, e.What, "passed over") })
	if err != nil {
		return err
	}
	db := &DB{opt: o, m: m, r: region, seed: region.ID().Seed()}
	db.ix = index{m: m, r: region, mapped: m.Device().Mapping() != nil}
	r.db = db
	st, err := decodeState(region.Payload())
	if err != nil {
		r.damaged(0, "superblock payload", err.Error())
	}
	r.last = st.last
	region.Unknown(r.guess)
	return r.all(st.root)
}

// mostCarves is how often a slab whose identity is lost may have been carved for
// its records to be told.
const mostCarves = 1024

// guess finds the carve number with which some record of a slab passes, if the
// slab was carved into slots of this size.
func (r *rescuer) guess(s alloc.SlabInfo) (carve uint32, ok bool) {
	var err error
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	for i := range s.Slots {
		o := s.Off + nvmap.Off(i*s.SlotBytes)
		b := r.db.bytesAt(o, s.SlotBytes)
		var rec record
		if b == nil || !rec.parse(b) || !r.db.fits(&rec, s.Class) {
			continue
		}
		sum, header := bodySum(b[headerBytes(rec.flags):rec.size]), b[:headerBytes(rec.flags)]
		for carve := uint32(1); carve <= mostCarves; carve++ {
			if binary.LittleEndian.Uint32(b) == recordSum(r.db.seed, sum, header, carve, o) {
				return carve, true
			}
		}
	}
	return 0, false
}

// all rescues what root reaches, and then what else there is.
func (r *rescuer) all(root nvmap.PageID) error {
	if root == 0 {
		r.gaps = []gap{{}}
	} else if err := r.page(child{page: root}, -1, nil, nil); err != nil {
		return err
	}
	if len(r.gaps) == 0 && r.last == math.MaxUint64 {
		return nil
	}
	if err := r.scan(); err != nil {
		return err
	}
	return r.strays()
}

// page rescues what lies below an index page that holds keys in [low, high).
func (r *rescuer) page(c child, level int, low, high []byte) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	keys, pg, err := r.readPage(c, level)
	if err != nil {
		r.damaged(c.page.Off(), "index page", err.Error())
		r.gaps = append(r.gaps, gap{low: low, high: high})
		return nil
	}
	n := len(keys)
	for i, key := range keys {
		if pageLevel(pg) == 0 {
			if err := r.named(key, valAt(r.db.ix.vals(c.vals), i)); err != nil {
				return err
			}
			continue
		}
		from, to := key, high
		if i == 0 {
			from = low
		}
		if i+1 < n {
			to = keys[i+1]
		}
		if err := r.page(childAt(pg, n, i), pageLevel(pg)-1, from, to); err != nil {
			return err
		}
	}
	return nil
}

// readPage returns a page and its keys, which must all be there.
func (r *rescuer) readPage(c child, level int) (keys [][]byte, pg *page, err error) {
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	if pg, err = r.db.ix.load(c); err != nil {
		return nil, nil, err
	}
	if level >= 0 && pageLevel(pg) != level || pageLevel(pg) > maxHeight || pageLevel(pg) == 0 && c.vals == 0 {
		return nil, nil, &CorruptError{Off: uint64(c.page.Off()), Structure: "index page level"}
	}
	n := pageCount(pg)
	for i := range n {
		key, _, err := r.db.ix.fullKey(pg, n, i)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, bytes.Clone(key))
	}
	return keys, pg, nil
}

// named rescues a key that the index names.
func (r *rescuer) named(key []byte, x ref) error {
	rec, value, err := r.read(refOff(x))
	if err == nil && (rec.kind != kindPut || !bytes.Equal(rec.key, key)) {
		err = &CorruptError{Off: uint64(refOff(x)), Structure: "record of another key"}
	}
	if err != nil {
		r.report.Damage = append(r.report.Damage, CheckIssue{Off: uint64(refOff(x)), Structure: "record", Key: key, Msg: err.Error()})
		if m, ok := r.mend(key, refOff(x)); ok {
			r.report.Indexed++
			r.report.Mended++
			return r.give(&m.record, m.value, Rescued{Mended: true})
		}
		r.gaps = append(r.gaps, gap{low: key, high: append(slices.Clip(key), 0), lost: true})
		return nil
	}
	if r.last != math.MaxUint64 { // a newer one may turn up
		r.newest[string(key)] = stray{rec.number, rec.ordinal, rec.off, rec.kind}
		return nil
	}
	r.report.Indexed++
	return r.give(&rec, value, Rescued{})
}

// mend returns the record of a key that the index names at o and that does not
// pass, if it is one bit from that. Where a newer one may turn up it is left.
func (r *rescuer) mend(key []byte, o nvmap.Off) (m rotten, ok bool) {
	var err error
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	d, known := r.db.r.Describe(o)
	if !known || d.Kind != alloc.KindRecord || r.last != math.MaxUint64 {
		return m, false
	}
	class, _ := r.db.r.ClassFor(d.SlotBytes)
	s := suspect{off: o, bytes: d.SlotBytes, class: class, carve: d.Carve}
	base := &r.db.checkpoints.base
	w := wanted{upTo: math.MaxUint64, counts: func(n number) bool { return n.run() <= base.run }, effort: &r.effort}
	m, ok = r.db.examine(s, w)
	if !ok || m.bits != 1 || m.kind != kindPut || !bytes.Equal(m.key, key) {
		return m, false
	}
	if m.spilled() {
		if _, m.value, err = r.db.readRuns(&m.record, nil); err != nil {
			return m, false
		}
	}
	m.record.key = m.key
	return m, true
}

// read returns a record with its key and value, copied.
func (r *rescuer) read(o nvmap.Off) (rec record, value []byte, err error) {
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	if err := r.db.readRecord(o, &rec); err != nil {
		return rec, nil, err
	}
	if !rec.spilled() {
		rec.key = bytes.Clone(rec.key)
		return rec, bytes.Clone(rec.value), nil
	}
	if !r.db.extentsInside(&rec) {
		return rec, nil, &CorruptError{Off: uint64(o), Structure: "runs of a record"}
	}
	key, value, err := r.db.readRuns(&rec, nil)
	if rec.flags&flagSpillKey != 0 {
		rec.key = key
	}
	rec.key = bytes.Clone(rec.key)
	return rec, value, err
}

// extentsInside says whether a record's runs lie on the device.
func (db *DB) extentsInside(rec *record) bool {
	_, list := rec.extents()
	return !slices.ContainsFunc(list, func(e alloc.Extent) bool { return db.r.CheckExtent(e) != nil })
}

// give hands out a record; out says how it was found.
func (r *rescuer) give(rec *record, value []byte, out Rescued) error {
	if rec.expired(r.now) {
		return nil
	}
	out.Key, out.Value = rec.key, value
	if rec.expiry != 0 {
		out.Expires = time.Unix(0, rec.expiry)
	}
	return r.rescue(out)
}

// scan notes the newest record of each key that is looked for.
func (r *rescuer) scan() error {
	for s := range r.db.r.Slabs() {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if s.Kind != alloc.KindRecord {
			continue
		}
		for i := range s.Slots {
			r.slot(s.Off + nvmap.Off(i*s.SlotBytes))
		}
	}
	return nil
}

func (r *rescuer) slot(o nvmap.Off) {
	rec, _, err := r.read(o)
	var fault *nvmap.FaultError
	if errors.As(err, &fault) {
		r.damaged(o, "record slot", err.Error())
	}
	if err != nil || rec.number <= r.last && !r.inGap(rec.key) {
		return // free, or what the index says of this key counts
	}
	old, have := r.newest[string(rec.key)]
	if !have || old.number < rec.number || old.number == rec.number && old.ordinal < rec.ordinal {
		r.newest[string(rec.key)] = stray{rec.number, rec.ordinal, o, rec.kind}
	}
}

// inGap says whether the index cannot tell of a key.
func (r *rescuer) inGap(key []byte) bool {
	i, exact := slices.BinarySearchFunc(r.gaps, key, func(g gap, k []byte) int { return bytes.Compare(g.low, k) })
	if exact {
		return true
	}
	return i > 0 && (r.gaps[i-1].high == nil || bytes.Compare(key, r.gaps[i-1].high) < 0)
}

// strays gives what scan found, in the order of keys.
func (r *rescuer) strays() error {
	for _, g := range r.gaps {
		if g.lost {
			if s, ok := r.newest[string(g.low)]; !ok || s.kind != kindPut {
				r.report.Lost++
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.newest)) {
		s := r.newest[key]
		if s.kind != kindPut {
			continue
		}
		rec, value, err := r.read(s.off)
		if err != nil {
			continue // it was good a moment ago
		}
		isStray := s.number > r.last || r.inGap(rec.key)
		if isStray {
			r.report.Stray++
		} else {
			r.report.Indexed++
		}
		if err := r.give(&rec, value, Rescued{Stray: isStray}); err != nil {
			return err
		}
	}
	return nil
}
