package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Rescued is a record that Salvage found. Its slices are valid until the callback returns.
type Rescued struct {
	Key, Value []byte
	Expires    time.Time // zero: never
	// Stray says that no index named the record. It is the newest readable record of its key, at a
	// place where the index is lost. The key may have had a newer value, or may have been deleted.
	Stray bool
	// Mended says that one bit of the record was wrong and was corrected: now the checksum is
	// right. Among records with worse damage, this happens by chance to one of some millions of
	// small ones, or of thousands of large ones.
	Mended bool
}

// SalvageReport is the result of Salvage.
type SalvageReport struct {
	Indexed int64 // records that the index named
	Stray   int64 // records found without the index
	Mended  int64 // of Indexed: records with one corrected bit
	// Lost counts keys without a readable record: keys that the index names and, where the index
	// is lost, those that are missing from the store's count of keys.
	Lost    int64
	Unknown bool         // the store's count of keys is lost as well: more keys may be lost
	Damage  []CheckIssue // places that could not be read
}

// Salvage reads the readable records of a damaged store at path and calls rescue once for each key.
// It does not change the store. Where the index is intact it follows the index. For keys in a lost
// part of the index, it searches every slot of the store for records whose checksum is right, and
// takes the newest of each key. The memory that it takes grows with the number of such keys.
//
// If rescue returns an error, Salvage ends with it. Damage is no error, unless so little is left
// that no record can be recognized.
func Salvage(ctx context.Context, path string, opts *Options, rescue func(Rescued) error) (SalvageReport, error) {
	o := opts.withDefaults()
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, LockTimeout: o.LockTimeout, ReadOnly: true})
	if err != nil {
		return SalvageReport{}, err // the error has the path
	}
	report, err := SalvageDevice(ctx, dev, opts, rescue)
	if err != nil {
		err = fmt.Errorf("salvage %s: %w", path, err)
	}
	return report, errors.Join(err, dev.Close())
}

// SalvageDevice is Salvage of a store on a device of the caller. It does not close the device.
func SalvageDevice(ctx context.Context, dev nvmap.Device, opts *Options, rescue func(Rescued) error) (SalvageReport, error) {
	o := opts.withDefaults()
	r := &rescuer{ctx: ctx, rescue: rescue, now: o.now(), newest: map[string]stray{}}
	o.ReadOnly, o.Socket = true, ""
	db, err := OpenDevice(borrowed{dev}, &o)
	if err == nil {
		// The recovery has applied all records that count, so none is newer than its index.
		r.db, r.last, r.keys = db, math.MaxUint64, db.keys
		for _, d := range db.recovered.damaged {
			r.damaged(nvmap.Off(d.Off), d.Structure, "met by recovery")
		}
		return r.report, errors.Join(r.all(db.ix.Root()), db.Close())
	}
	r.damaged(0, "store", err.Error())
	m, err := nvmap.NewMap(borrowed{dev}, nil)
	if err != nil {
		return r.report, err
	}
	return r.report, errors.Join(r.damagedStore(m, o), m.Close())
}

// borrowed is a device that its owner closes.
type borrowed struct{ nvmap.Device }

func (borrowed) Close() error { return nil }

// rescuer is a Salvage under way.
type rescuer struct {
	ctx    context.Context
	db     *DB
	rescue func(Rescued) error
	report SalvageReport
	now    int64
	last   record.Number    // the index contains transactions up to this one
	keys   int64            // the store's count of keys at last; -1: unknown
	met    int64            // how many of these the index named
	gaps   []gap            // key ranges in which the index is lost, ascending
	newest map[string]stray // of the keys that are searched for
	effort atomic.Int64     // see wanted
	left   btree.Visits
	bytes  bytesLeft
}

// gap is the keys in [low, high). A nil high is open.
type gap struct {
	low, high []byte
	lost      bool // a single key that the index names
}

// stray is the newest record of a key that was found.
type stray struct {
	number  record.Number
	ordinal uint32
	off     nvmap.Off
	kind    byte
}

func (r *rescuer) damaged(o nvmap.Off, what, msg string) {
	r.report.Damage = append(r.report.Damage, CheckIssue{Off: uint64(o), Structure: what, Msg: msg})
}

// damagedStore rescues from a store that does not open: from the index of its last checkpoint, as
// far as it is intact, and from later records.
func (r *rescuer) damagedStore(m *nvmap.Map, o Options) error {
	region, err := alloc.OpenDamaged(m, func(e *CorruptError) { r.damaged(nvmap.Off(e.Off), e.Structure, "passed over") })
	if err != nil {
		return err
	}
	db := &DB{opt: o, m: m, r: region, seed: region.ID().Seed()}
	db.ix.Init(m, region, btree.Options{})
	r.db = db
	st, err := readState(region)
	if err != nil {
		r.damaged(0, "superblock payload", err.Error())
	}
	r.last, r.keys = st.last, st.keys
	if err != nil {
		r.keys = -1
	}
	region.Unknown(r.guess)
	return r.all(st.root)
}

// mostCarves is the highest carve number that is tried for a slab whose identity is lost.
const mostCarves = 1024

// guess finds a carve number with which some record of a slab passes, assuming slots of this size.
func (r *rescuer) guess(s alloc.SlabInfo) (carve uint32, ok bool) {
	var err error
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	for i := range s.Slots {
		o := s.Off + nvmap.Off(i*s.SlotBytes)
		b := r.db.bytesAt(o, s.SlotBytes)
		var rec record.Record
		if b == nil || !rec.Parse(b) || !r.db.fits(&rec, s.Class) {
			continue
		}
		if carve, ok := rec.CarveOf(b, r.db.seed, o, 1, mostCarves+1); ok {
			return carve, true
		}
	}
	return 0, false
}

// all rescues the keys that root reaches, and then the others.
func (r *rescuer) all(root nvmap.PageID) error {
	r.left, r.bytes = r.db.ix.Visits(), r.db.bytesLeft()
	if root == 0 {
		r.gaps = []gap{{}}
	} else if err := r.page(btree.RootAt(root), nil, nil); err != nil {
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

// page rescues the keys below an index page, which lie in [low, high).
func (r *rescuer) page(c btree.Child, low, high []byte) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	keys, pg, err := r.readPage(c)
	if err != nil {
		r.damaged(c.Page.Off(), "index page", err.Error())
		r.gaps = append(r.gaps, gap{low: low, high: high})
		return nil
	}
	n := len(keys)
	for i, key := range keys {
		if btree.Level(pg) == 0 {
			if err := r.named(key, btree.ValAt(r.db.ix.Vals(c.Vals), i)); err != nil {
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
		if err := r.page(btree.ChildAt(pg, n, i), from, to); err != nil {
			return err
		}
	}
	return nil
}

// readPage returns a page and its keys. It fails if one of the keys cannot be read.
func (r *rescuer) readPage(c btree.Child) (keys [][]byte, pg *btree.Page, err error) {
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	if err := r.left.One(c); err != nil {
		return nil, nil, err
	}
	if pg, err = r.db.ix.Load(c); err != nil {
		return nil, nil, err
	}
	n := btree.Count(pg)
	for i := range n {
		key, _, err := r.db.ix.KeyOf(pg, n, i)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, bytes.Clone(key))
	}
	return keys, pg, nil
}

// named rescues a key that the index names.
func (r *rescuer) named(key []byte, x btree.Ref) error {
	r.met++
	rec, value, err := r.read(btree.RefOff(x))
	if err == nil && (rec.Kind != record.KindPut || !bytes.Equal(rec.Key, key)) {
		err = &CorruptError{Off: uint64(btree.RefOff(x)), Structure: "record of another key"}
	}
	if err != nil {
		r.report.Damage = append(r.report.Damage, CheckIssue{Off: uint64(btree.RefOff(x)), Structure: "record", Key: key, Msg: err.Error()})
		if m, ok := r.mend(key, btree.RefOff(x)); ok {
			r.report.Indexed++
			r.report.Mended++
			return r.give(&m.Record, m.Value, Rescued{Mended: true})
		}
		r.gaps = append(r.gaps, gap{low: key, high: append(slices.Clip(key), 0), lost: true})
		return nil
	}
	if r.last != math.MaxUint64 { // a newer one may be found
		r.newest[string(key)] = stray{rec.Number, rec.Ordinal, rec.Off, rec.Kind}
		return nil
	}
	r.report.Indexed++
	return r.give(&rec, value, Rescued{})
}

// mend returns the record of key at o, which does not pass, if it is one bit from passing. It does
// nothing if a newer record may be found.
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
	w := wanted{upTo: math.MaxUint64, counts: func(n record.Number) bool { return n.Run() <= base.run }, effort: &r.effort}
	m, ok = r.db.examine(s, w)
	if !ok || m.bits != 1 || m.Kind != record.KindPut || !bytes.Equal(m.key, key) {
		return m, false
	}
	if m.Spilled() {
		if _, m.Value, err = r.db.readRuns(&m.Record, nil); err != nil {
			return m, false
		}
	}
	m.Record.Key = m.key
	return m, true
}

// read returns a record with copies of its key and value.
func (r *rescuer) read(o nvmap.Off) (rec record.Record, value []byte, err error) {
	defer r.db.guarded("salvage", panicOnFault(true), &err)
	if err := r.db.readRecord(o, &rec); err != nil {
		return rec, nil, err
	}
	if !rec.Spilled() {
		rec.Key = bytes.Clone(rec.Key)
		return rec, bytes.Clone(rec.Value), nil
	}
	if !r.db.extentsInside(&rec) {
		return rec, nil, &CorruptError{Off: uint64(o), Structure: "runs of a record"}
	}
	if err := r.bytes.of(&rec); err != nil {
		return rec, nil, err
	}
	key, value, err := r.db.readRuns(&rec, nil)
	if rec.Flags&record.FlagSpillKey != 0 {
		rec.Key = key
	}
	rec.Key = bytes.Clone(rec.Key)
	return rec, value, err
}

// give passes a record to the callback, unless it has expired. out says how the record was found.
func (r *rescuer) give(rec *record.Record, value []byte, out Rescued) error {
	if rec.Expired(r.now) {
		return nil
	}
	out.Key, out.Value = rec.Key, value
	out.Expires = expiryTime(rec.Expiry)
	return r.rescue(out)
}

// scan collects the newest record of each key that is searched for.
func (r *rescuer) scan() error {
	r.bytes = 64 * r.db.bytesLeft() // superseded records may share pages with others
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
	if err != nil || rec.Number <= r.last && !r.inGap(rec.Key) {
		return // free, or the index decides about this key
	}
	old, have := r.newest[string(rec.Key)]
	if !have || old.number < rec.Number || old.number == rec.Number && old.ordinal < rec.Ordinal {
		r.newest[string(rec.Key)] = stray{rec.Number, rec.Ordinal, o, rec.Kind}
	}
}

// inGap says whether the index is lost for a key.
func (r *rescuer) inGap(key []byte) bool {
	_, ok := r.gapOf(key)
	return ok
}

// gapOf returns the gap that contains a key.
func (r *rescuer) gapOf(key []byte) (i int, ok bool) {
	i, exact := slices.BinarySearchFunc(r.gaps, key, func(g gap, k []byte) int { return bytes.Compare(g.low, k) })
	if exact {
		return i, true
	}
	i--
	return i, i >= 0 && (r.gaps[i].high == nil || bytes.Compare(key, r.gaps[i].high) < 0)
}

// countLost counts the lost keys: those that the index names but that have no readable record and,
// if a part of the index is lost, those that are missing from the store's count.
func (r *rescuer) countLost() {
	wide := false
	for _, g := range r.gaps {
		wide = wide || !g.lost
		if g.lost {
			if s, ok := r.newest[string(g.low)]; !ok || s.kind != record.KindPut {
				r.report.Lost++
			}
		}
	}
	switch {
	case !wide:
	case r.keys < 0:
		r.report.Unknown = true
	default:
		r.report.Lost += max(0, r.keys-r.met-r.foundInGaps())
	}
}

// foundInGaps returns how many keys of the store's count were found without the index or were
// deleted since.
func (r *rescuer) foundInGaps() (n int64) {
	for key, s := range r.newest {
		if (s.kind == record.KindPut || s.number > r.last) && r.inWideGap([]byte(key)) {
			n++
		}
	}
	return n
}

// inWideGap is inGap without single keys, which the index names.
func (r *rescuer) inWideGap(key []byte) bool {
	i, ok := r.gapOf(key)
	return ok && !r.gaps[i].lost
}

// strays passes on what scan found, in the order of keys.
func (r *rescuer) strays() error {
	r.countLost()
	r.bytes = r.db.bytesLeft()
	for _, key := range slices.Sorted(maps.Keys(r.newest)) {
		s := r.newest[key]
		if s.kind != record.KindPut {
			continue
		}
		rec, value, err := r.read(s.off)
		if err != nil {
			continue // it was readable before
		}
		isStray := s.number > r.last || r.inGap(rec.Key)
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
