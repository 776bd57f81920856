package kv

import (
	"bytes"
	"slices"

	"nvkv/kv/internal/record"
)

// ranges are the deleted ranges that a recovery found. A range deletes everything older than its
// record: keys of the checkpoint's tree, and records with a lower number or ordinal (I12). If
// ranges overlap, the newest decides. So the keys are divided into adjacent stretches, each with
// its newest range.
type ranges struct {
	bounds   [][]byte   // first key of each stretch, ascending
	newest   []rangeAge // of each stretch; number 0: no range
	from, to uint32     // leaves in which the stretches may lie: [from, to)
}

type rangeAge struct {
	number  record.Number
	ordinal uint32
}

// deletedRange is a range record.
type deletedRange struct {
	rangeAge
	start, end []byte // a nil end is open
}

// readRanges reads the range records among the candidates.
func (rc *recovery) readRanges() {
	rc.each(func(c *candidate) {
		if c.kind != record.KindRange || c.flags&flagRotten != 0 { // addRotten has added it
			return
		}
		if d, err := rc.deletedRange(c); err != nil {
			rc.damage(c.off, "record of a deleted range, whose keys are back", nil)
		} else {
			rc.deleted = append(rc.deleted, d)
		}
	})
	rc.ranges = paint(rc.deleted)
}

// loadRanges determines which leaves the ranges touch, and keeps their records until a checkpoint
// (R6).
func (rc *recovery) loadRanges() error {
	rc.each(func(c *candidate) {
		if c.kind != record.KindRange {
			return
		}
		rc.db.recovered.replayed++
		rc.bytes += int64(c.bytes)
		if rc.db.off(ruleR6Recovery) {
			rc.db.r.Unclaim(c.off)
		} else {
			rc.db.tombs = append(rc.db.tombs, c.ref())
		}
	})
	if len(rc.deleted) == 0 {
		return nil
	}
	return rc.ranges.locate(rc, rc.deleted)
}

func (rc *recovery) deletedRange(c *candidate) (deletedRange, error) {
	d := deletedRange{rangeAge: rangeAge{c.number, c.ordinal}}
	var rec record.Record
	if err := rc.db.readRecord(c.off, &rec); err != nil {
		return d, err
	}
	key, value := rec.Key, rec.Value
	if rec.Spilled() {
		var err error
		if key, value, err = rc.db.readRuns(&rec, nil); err != nil {
			return d, err
		}
	}
	d.start = bytes.Clone(key)
	if c.flags&record.FlagOpen == 0 {
		d.end = append([]byte{}, value...)
	}
	return d, nil
}

// paint divides the keys into stretches and gives each its newest range. It goes from the newest
// range to the oldest; each takes the stretches that are still blank.
func paint(found []deletedRange) *ranges {
	r := new(ranges)
	if len(found) == 0 {
		return r
	}
	for _, d := range found {
		r.bounds = append(r.bounds, d.start)
		if d.end != nil {
			r.bounds = append(r.bounds, d.end)
		}
	}
	slices.SortFunc(r.bounds, bytes.Compare)
	r.bounds = slices.CompactFunc(r.bounds, bytes.Equal)
	r.newest = make([]rangeAge, len(r.bounds))
	// blank[i] is the first blank stretch from i on, or one before that.
	blank := make([]int, len(r.bounds)+1)
	for i := range blank {
		blank[i] = i
	}
	next := func(i int) int {
		for blank[i] != i {
			blank[i] = blank[blank[i]]
			i = blank[i]
		}
		return i
	}
	slices.SortFunc(found, func(a, b deletedRange) int {
		if a.older(b.rangeAge) {
			return 1
		}
		return -1
	})
	for _, d := range found {
		from, to := r.stretchAt(d.start), len(r.bounds)
		if d.end != nil {
			to = r.stretchAt(d.end)
		}
		for i := next(from); i < to; i = next(i) {
			r.newest[i] = d.rangeAge
			blank[i] = i + 1
		}
	}
	return r
}

func (a rangeAge) older(b rangeAge) bool {
	return a.number < b.number || a.number == b.number && a.ordinal < b.ordinal
}

// stretchAt returns the stretch that contains key, or -1 if key is below all.
func (r *ranges) stretchAt(key []byte) int {
	i, equal := slices.BinarySearchFunc(r.bounds, key, bytes.Compare)
	if !equal {
		i--
	}
	return i
}

// locate determines between which leaves the ranges lie.
func (r *ranges) locate(rc *recovery, found []deletedRange) (err error) {
	if rc.route.Leaves() == 0 {
		return nil
	}
	if r.from, err = rc.route.Leaf(r.bounds[0]); err != nil {
		return err
	}
	r.to = uint32(rc.route.Leaves())
	for _, d := range found {
		if d.end == nil {
			return nil
		}
	}
	last, err := rc.route.Leaf(r.bounds[len(r.bounds)-1])
	r.to = last + 1
	return err
}

// touch says whether a range may contain keys of a leaf.
func (r *ranges) touch(leaf uint32) bool { return leaf >= r.from && leaf < r.to }

// cover says whether a range deletes the record of key with this number and ordinal.
func (r *ranges) cover(key []byte, n record.Number, ordinal uint32) bool {
	if len(r.bounds) == 0 {
		return false
	}
	i := r.stretchAt(key)
	return i >= 0 && (rangeAge{n, ordinal}).older(r.newest[i])
}
