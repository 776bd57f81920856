package kv

import (
	"slices"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Replay is the second half of a recovery. Only the newest record of each key must be applied, in
// the order of keys. So the candidates are sorted by leaf, each leaf is read once, and its value
// block is copied once.
//
//	maps     load the maps of the slots that the checkpoint's tree reaches
//	lead     find the leaf of that tree to which the key of each candidate belongs
//	claim    mark the slots of all records that count as used
//	sort     sort the candidates by leaf
//	resolve  find the newest record of each key, and the records that it displaces
//	settle   decide which slots are used and live; from here on slots may be allocated
//	apply    change the tree
//
// Several goroutines share all steps except the last.

// resolved is the result of resolving the candidates of adjacent leaves.
type resolved struct {
	updates  []leafUpdate
	into     []nvmap.Off // new places of the value blocks, one for each update
	sets     []btree.ValueSet
	changes  []keyChange
	owners   []slotChanges // one for each goroutine of settle
	spilled  []spilledChange
	tombs    []btree.Ref
	rotten   []nvmap.Off // records that decide a key but do not pass (I18)
	replayed int64
	bytes    int64
}

// leafUpdate is a change of the value block of a leaf.
type leafUpdate struct {
	leaf uint32
	sets int // how many of resolved.sets it has
}

// keyChange adds a key to the tree or removes it.
type keyChange struct {
	key []byte
	ref btree.Ref // 0: remove it
}

// slotChanges lists slots of records without runs. A slot that the checkpoint's tree named is free
// now, unless a newer record took it.
type slotChanges struct {
	displaced []nvmap.Off
	losers    []nvmap.Off
	winners   []nvmap.Off
}

// spilledChange is the same for a record with runs.
type spilledChange struct {
	ref  btree.Ref
	old  bool // the checkpoint's tree names it; else it is a candidate
	won  bool
	keep bool // it lost, and stays until a checkpoint has flipped
}

// replay brings the tree up to date.
func (rc *recovery) replay() error {
	db := rc.db
	if err := rc.loadMaps(); err != nil {
		return err
	}
	if err := rc.lookBack(); err != nil {
		return err
	}
	if err := rc.lead(); err != nil {
		return err
	}
	if err := rc.claim(); err != nil {
		return err
	}
	if err := rc.loadRanges(); err != nil {
		return err
	}
	sorted, starts, err := rc.sort()
	if err != nil {
		return err
	}
	parts, err := rc.resolve(sorted, starts)
	if err != nil {
		return err
	}
	if err := rc.settle(parts); err != nil {
		return err
	}
	db.r.Ready()
	if rc.st.root == 0 {
		if err := db.ix.Reserve(2, 1, true); err != nil {
			return err
		}
		if err := db.ix.NewTree(); err != nil {
			return err
		}
	}
	return rc.apply(parts)
}

// lead finds for every candidate the leaf to which its key belongs. If the key lies in runs,
// claimRuns does this.
func (rc *recovery) lead() error {
	if !rc.any() {
		return nil
	}
	if err := rc.route.Load(&rc.db.ix); err != nil {
		return err
	}
	return rc.share(func(w int) error {
		sv := &rc.salvagers[w]
		sv.counts = make([]uint32, rc.route.Leaves())
		near := nearby{db: rc.db}
		for _, b := range sv.blocks {
			for i := range b {
				if i+leadAhead < len(b) {
					rc.db.ix.AskRecord(b[i+leadAhead].off)
				}
				c := &b[i]
				c.leaf = noLeaf
				var key []byte
				switch {
				case !c.keyed():
					continue
				case c.flags&flagRotten != 0:
					key = rc.bare[c.off]
				case c.flags&record.FlagSpillKey != 0:
					continue
				default:
					key = near.keyOf(c)
				}
				if err := sv.lead(c, key); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// leadAhead is how many records ahead lead prefetches.
const leadAhead = 8

// noLeaf is the leaf of a candidate whose key has not been read.
const noLeaf = ^uint32(0)

// lead finds the leaf to which a candidate's key belongs.
func (sv *salvager) lead(c *candidate, key []byte) (err error) {
	c.leaf, err = sv.rc.route.Leaf(key)
	if err == nil {
		sv.counts[c.leaf]++
	}
	return err
}

// nearby reads the keys of candidates that come in the order of their offsets. If the device is not
// mapped, one read serves many of them.
type nearby struct {
	db   *DB
	from nvmap.Off
	b    []byte
}

// nearbyBytes is the size of such a read.
const nearbyBytes = 64 << 10

// keyOf returns the key of a candidate that has it in its slot.
func (n *nearby) keyOf(c *candidate) []byte {
	at := record.HeaderLen(c.flags)
	end := at + int(c.keyLen)
	if c.off < n.from || c.off+nvmap.Off(end) > n.from+nvmap.Off(len(n.b)) {
		n.move(c.off, end)
	}
	o := int(c.off - n.from)
	return n.b[o+at : o+end]
}

// move reads from o on, least bytes or more.
func (n *nearby) move(o nvmap.Off, least int) {
	size := int(min(n.db.m.Size()-int64(o), max(nearbyBytes, int64(least))))
	b, err := n.db.tryBytesAt(o, size)
	if err != nil { // of a neighbour
		b = n.db.bytesAt(o, least)
	}
	n.from, n.b = o, b
}

// claim marks the slot of every record that counts as used before anything is allocated. If the
// checkpoint's maps call such a slot live, its old record was superseded since.
func (rc *recovery) claim() error {
	db := rc.db
	bad := make([][]nvmap.Off, len(rc.salvagers))
	err := rc.share(func(w int) error {
		rc.salvagers[w].each(func(c *candidate) {
			if c.kind != kindVoid && db.r.Retake(c.off, alloc.KindRecord) != nil {
				bad[w] = append(bad[w], c.off)
			}
		})
		return nil
	})
	for _, o := range slices.Concat(bad...) {
		rc.damage(o, "record slot", nil)
	}
	if err != nil {
		return err
	}
	for _, e := range rc.heldRuns {
		rc.claimPages(e)
	}
	for i := range rc.salvagers {
		sv := &rc.salvagers[i]
		sv.each(func(c *candidate) {
			switch {
			case c.kind == record.KindClose: // R2
				db.tombs = append(db.tombs, c.off)
			case c.flags&record.FlagSpill != 0 && c.kind != kindVoid && err == nil:
				err = sv.claimRuns(c)
			}
		})
	}
	return err
}

// claimRuns claims the runs of a candidate, and reads its key if that lies there.
func (sv *salvager) claimRuns(c *candidate) error {
	rc := sv.rc
	var rec record.Record
	if rc.db.readRecord(c.off, &rec) != nil {
		return nil
	}
	l, _ := rc.db.runs(&rec) // not complete if the record was superseded or is damaged
	for _, e := range rc.inside(l.Extents) {
		rc.claimPages(e)
	}
	if c.flags&record.FlagSpillKey == 0 || !c.keyed() {
		return nil
	}
	key := rc.db.keyInRuns(&rec)
	if key == nil {
		// Either the record was superseded and its runs reused, or Check will miss the key.
		rc.damage(c.off, "runs of a record that may be superseded", nil)
		return nil
	}
	if rc.bare == nil {
		rc.bare = map[nvmap.Off][]byte{}
	}
	rc.bare[c.off] = key
	return sv.lead(c, key)
}

// claimPages claims the pages of a run that are not claimed yet. One record may have freed a run
// and the next one taken it, and both may be candidates.
func (rc *recovery) claimPages(e alloc.Extent) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if !rc.db.r.IsUsed(o) {
			// An error means that the slab is no longer for runs: the record was superseded.
			_ = rc.db.r.Claim(o, alloc.KindRun)
		}
	}
}

// sort sorts the candidates by leaf. Those of leaf n begin at starts[n].
func (rc *recovery) sort() (sorted []candidate, starts []uint32, err error) {
	leaves := rc.route.Leaves()
	starts = make([]uint32, leaves+1)
	total := uint32(0)
	for leaf := range leaves {
		starts[leaf] = total
		for i := range rc.salvagers {
			counts := rc.salvagers[i].counts
			counts[leaf], total = total, total+counts[leaf]
		}
	}
	starts[leaves] = total
	sorted = make([]candidate, total)
	err = rc.share(func(w int) error {
		sv := &rc.salvagers[w]
		sv.each(func(c *candidate) {
			if c.leaf != noLeaf {
				sorted[sv.counts[c.leaf]] = *c
				sv.counts[c.leaf]++
			}
		})
		sv.blocks = nil
		return nil
	})
	return sorted, starts, err
}

// partCandidates is the least number of candidates of a part. The cache bounds it, because a part
// is copied as a whole.
const partCandidates = 4096

// resolve finds the newest record of each key, part by part.
func (rc *recovery) resolve(sorted []candidate, starts []uint32) ([]resolved, error) {
	least := uint32(min(partCandidates, rc.db.m.CacheFrames()/8))
	var bounds []int
	for leaf := 0; leaf < len(starts)-1; leaf++ {
		if len(bounds) == 0 || starts[leaf]-starts[bounds[len(bounds)-1]] >= least {
			bounds = append(bounds, leaf)
		}
	}
	parts := make([]resolved, len(bounds))
	bounds = append(bounds, len(starts)-1)
	var next atomic.Int64
	err := rc.share(func(int) error {
		rv := resolver{rc: rc}
		for {
			n := int(next.Add(1)) - 1
			if n >= len(parts) {
				return nil
			}
			rv.part = &parts[n]
			rv.begin(int(starts[bounds[n+1]] - starts[bounds[n]]))
			for leaf := bounds[n]; leaf < bounds[n+1]; leaf++ {
				if err := rv.leaf(uint32(leaf), sorted[starts[leaf]:starts[leaf+1]]); err != nil {
					return err
				}
			}
		}
	})
	return parts, err
}
