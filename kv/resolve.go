package kv

import (
	"bytes"
	"cmp"
	"slices"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// resolver resolves the candidates of one leaf at a time.
type resolver struct {
	rc    *recovery
	part  *resolved
	found [btree.LeafFanout]*candidate // the newest candidate of each key in the leaf
	fresh []freshKey                   // keys that are not in the leaf
	pages []nvmap.PageID               // see ask
}

// begin allocates memory for the results of n candidates.
func (rv *resolver) begin(n int) {
	owners := len(rv.rc.salvagers)
	rv.part.owners = make([]slotChanges, owners)
	for i := range rv.part.owners {
		o := &rv.part.owners[i]
		o.displaced = make([]nvmap.Off, 0, n/owners+n/8)
		o.winners = make([]nvmap.Off, 0, n/owners+n/8)
	}
	rv.part.sets = make([]btree.ValueSet, 0, n)
}

type freshKey struct {
	key []byte
	c   *candidate
}

// leaf resolves the candidates of one leaf.
func (rv *resolver) leaf(leaf uint32, cs []candidate) error {
	rc := rv.rc
	if len(cs) == 0 && !rc.ranges.touch(leaf) {
		return nil
	}
	rv.ask(leaf, cs)
	var pg *btree.Page
	if rc.st.root != 0 {
		var err error
		if pg, err = rc.route.Page(leaf); err != nil {
			return err
		}
	}
	clear(rv.found[:])
	rv.fresh = rv.fresh[:0]
	for i := range cs {
		if err := rv.place(pg, &cs[i]); err != nil {
			return err
		}
	}
	if pg != nil {
		if err := rv.update(leaf, pg); err != nil {
			return err
		}
	}
	rv.addFresh()
	return nil
}

// ask prefetches the candidates of a leaf or, if the device is not mapped, reads them and the leaf
// together.
func (rv *resolver) ask(leaf uint32, cs []candidate) {
	ix := &rv.rc.db.ix
	if ix.Mapped() {
		for i := range cs {
			ix.AskRecord(cs[i].off)
		}
		return
	}
	rv.pages = rv.pages[:0]
	for i := range cs {
		rv.pages = ix.RecordPages(rv.pages, cs[i].off)
	}
	if rv.rc.st.root != 0 {
		rv.pages = rv.rc.route.Pages(rv.pages, leaf)
	}
	rv.rc.db.m.ReadAhead(rv.pages)
}

// place finds the key of a candidate in the leaf, or records that it is not there.
func (rv *resolver) place(pg *btree.Page, c *candidate) error {
	rc := rv.rc
	rv.part.replayed++
	rv.part.bytes += int64(c.bytes)
	if c.kind == record.KindDelete && !rc.db.off(ruleR6Recovery) {
		rv.part.tombs = append(rv.part.tombs, c.ref()&^btree.RefTTL) // R6
	}
	key, err := rc.keyOf(c)
	if err != nil {
		return err
	}
	written := c.number
	if rc.db.off(ruleI12) {
		written = 0
	}
	if rc.ranges.cover(key, written, c.ordinal) {
		rv.lose(c)
		return nil
	}
	if pg == nil {
		rv.fresh = append(rv.fresh, freshKey{key, c})
		return nil
	}
	at, found, err := rc.db.ix.Search(pg, key)
	if err != nil {
		return err
	}
	if !found {
		rv.fresh = append(rv.fresh, freshKey{key, c})
		return nil
	}
	if at >= btree.LeafFanout {
		return &CorruptError{Off: uint64(rc.route.Off(c.leaf)), Structure: "index page"}
	}
	older := c
	if best := rv.found[at]; best == nil {
		rv.found[at], older = c, nil
	} else if best.older(c) {
		rv.found[at], older = c, best
	}
	if older != nil {
		rv.lose(older)
	}
	return nil
}

// keyOf returns the key of a candidate. It aliases the medium or rc.bare.
func (rc *recovery) keyOf(c *candidate) ([]byte, error) {
	if c.flags&record.FlagSpillKey != 0 {
		return rc.bare[c.off], nil
	}
	at := record.HeaderLen(c.flags)
	b := rc.db.bytesAt(c.off, at+int(c.keyLen))
	if b == nil {
		return nil, &CorruptError{Off: uint64(c.off), Structure: "record offset"}
	}
	return b[at:], nil
}

// lose frees the slot of a candidate that a newer record supersedes. A tombstone stays (R6).
// Records of the highest transaction stay if it is a group: until this opening's superblock is
// durable, the next recovery counts them.
func (rv *resolver) lose(c *candidate) {
	switch {
	case c.kind == record.KindDelete:
		rv.bury(c)
	case c.number == rv.rc.highest && c.flags&record.FlagSpill != 0: // R2: of a group
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref(), keep: true})
	case c.number == rv.rc.highest:
		rv.part.tombs = append(rv.part.tombs, c.off)
	case c.flags&record.FlagSpill != 0:
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref()})
	default:
		o := rv.owner(c.off)
		o.losers = append(o.losers, c.off)
	}
}

// bury handles a tombstone as a recovery without R6 would.
func (rv *resolver) bury(c *candidate) {
	if rv.rc.db.off(ruleR6Recovery) {
		o := rv.owner(c.off)
		o.losers = append(o.losers, c.off)
	}
}

// win makes a candidate the record of its key.
func (rv *resolver) win(c *candidate) {
	if c.flags&record.FlagSpill != 0 {
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref(), won: true})
		return
	}
	rv.rotten(c)
	o := rv.owner(c.off)
	o.winners = append(o.winners, c.off)
}

// rotten records that a candidate decides a key but does not pass.
func (rv *resolver) rotten(c *candidate) {
	if c.flags&flagRotten != 0 {
		rv.part.rotten = append(rv.part.rotten, c.off)
	}
}

// displace records that the index no longer reaches x, a record of the checkpoint's tree.
func (rv *resolver) displace(x btree.Ref) {
	if x&btree.RefSpill != 0 {
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: x, old: true})
		return
	}
	o := rv.owner(btree.RefOff(x))
	o.displaced = append(o.displaced, btree.RefOff(x))
}

// owner returns the list for changes of a slot. One goroutine handles all slots of a slab.
func (rv *resolver) owner(o nvmap.Off) *slotChanges {
	n := len(rv.part.owners)
	return &rv.part.owners[rv.rc.db.r.SlabOf(o)/scanStride%n]
}

// update decides about the keys in the leaf.
func (rv *resolver) update(leaf uint32, pg *btree.Page) error {
	swept := rv.rc.ranges.touch(leaf)
	vals := rv.rc.route.Vals(leaf)
	sets := len(rv.part.sets)
	for at := range min(btree.Count(pg), btree.LeafFanout) {
		c := rv.found[at]
		if c == nil && swept {
			if err := rv.sweep(pg, vals, at); err != nil {
				return err
			}
		}
		if c == nil {
			continue
		}
		rv.displace(btree.ValAt(vals, at))
		if c.kind == record.KindDelete {
			rv.bury(c)
			rv.rotten(c)
			key, _ := rv.rc.keyOf(c)
			rv.part.changes = append(rv.part.changes, keyChange{key: key})
			continue
		}
		rv.win(c)
		rv.part.sets = append(rv.part.sets, btree.ValueSet{At: int32(at), Ref: c.ref()})
	}
	if n := len(rv.part.sets) - sets; n > 0 {
		rv.part.updates = append(rv.part.updates, leafUpdate{leaf: leaf, sets: n})
	}
	return nil
}

// sweep removes a key of the checkpoint's tree if a range covers it. The tree's record is older
// than any range.
func (rv *resolver) sweep(pg *btree.Page, vals *btree.Vals, at int) error {
	key, _, err := rv.rc.db.ix.KeyOf(pg, btree.Count(pg), at)
	if err != nil || !rv.rc.ranges.cover(key, rv.rc.st.last, 0) {
		return err
	}
	rv.displace(btree.ValAt(vals, at))
	rv.part.changes = append(rv.part.changes, keyChange{key: key})
	return nil
}

// addFresh decides about the keys that are not in the leaf.
func (rv *resolver) addFresh() {
	sortFresh(rv.fresh)
	for i, f := range rv.fresh {
		if i+1 < len(rv.fresh) && bytes.Equal(f.key, rv.fresh[i+1].key) {
			rv.lose(f.c)
			continue
		}
		if f.c.kind == record.KindDelete {
			rv.bury(f.c)
			continue
		}
		rv.win(f.c)
		rv.part.changes = append(rv.part.changes, keyChange{f.key, f.c.ref()})
	}
}

// sortFresh sorts by key, and records of one key from the oldest to the newest.
func sortFresh(fresh []freshKey) {
	slices.SortFunc(fresh, func(a, b freshKey) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.c.number, b.c.number), cmp.Compare(a.c.ordinal, b.c.ordinal))
	})
}
