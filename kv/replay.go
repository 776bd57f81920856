package kv

import (
	"bytes"
	"cmp"
	"slices"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Replaying is the second half of a recovery. Only the newest record of each
// key has to be applied, and in the order of keys: so the candidates are sorted
// by leaf, each leaf is looked at once, and what an update changes in it is
// copied once.
//
//	maps     which slots the checkpoint's tree reaches
//	lead     each to the leaf of that tree in which its key belongs
//	claim    the slots of all that counts
//	sort     by leaf
//	resolve  the newest of each key, and what it displaced
//	settle   which slots are used and live; from here on may be allocated
//	apply    to the tree
//
// All but the last are shared among goroutines.

// resolved is what came of the candidates of neighbouring leaves.
type resolved struct {
	updates  []leafUpdate
	into     []nvmap.Off // new place of each one's value block
	sets     []valueSet
	changes  []keyChange
	owners   []slotChanges // by the goroutine that settles the slots
	spilled  []spilledChange
	tombs    []ref
	replayed int64
	bytes    int64
}

// leafUpdate is what changes in the value block of a leaf.
type leafUpdate struct {
	leaf uint32
	sets int // of resolved.sets
}

type valueSet struct {
	at  int32
	ref ref
}

// keyChange adds a key to the tree or takes it out.
type keyChange struct {
	key []byte
	ref ref // 0: take it out
}

// slotChanges are slots of records without runs. What the checkpoint's tree
// named is free now unless it was taken since.
type slotChanges struct {
	displaced []nvmap.Off
	losers    []nvmap.Off
	winners   []nvmap.Off
}

// spilledChange is the same for a record with runs.
type spilledChange struct {
	ref  ref
	old  bool // named by the checkpoint's tree; else a candidate
	won  bool
	keep bool // lost, and stays until a checkpoint has flipped
}

// replay brings the tree up to date.
func (rc *recovery) replay() error {
	db := rc.db
	if err := rc.loadMaps(); err != nil {
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
		if err := db.ix.reserve(2, 1, true); err != nil {
			return err
		}
		if err := db.ix.newTree(); err != nil {
			return err
		}
	}
	return rc.apply(parts)
}

// lead notes for every candidate the leaf to which its key belongs. Where the key
// lies in runs, claimRuns does.
func (rc *recovery) lead() error {
	if !rc.any() {
		return nil
	}
	if err := rc.route.load(rc); err != nil {
		return err
	}
	return rc.share(func(w int) error {
		sv := &rc.salvagers[w]
		sv.counts = make([]uint32, len(rc.route.leaves))
		near := nearby{db: rc.db}
		for _, b := range sv.blocks {
			for i := range b {
				if i+leadAhead < len(b) {
					rc.db.ix.askRecord(b[i+leadAhead].off)
				}
				c := &b[i]
				c.leaf = noLeaf
				if !c.keyed() || c.flags&flagSpillKey != 0 {
					continue
				}
				if err := sv.lead(c, near.keyOf(c)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// leadAhead is how many records lead asks for before it reads them.
const leadAhead = 8

// noLeaf is the leaf of a candidate whose key has not been read.
const noLeaf = ^uint32(0)

// lead notes the leaf to which a candidate's key belongs.
func (sv *salvager) lead(c *candidate, key []byte) (err error) {
	c.leaf, err = sv.rc.route.leaf(key)
	if err == nil {
		sv.counts[c.leaf]++
	}
	return err
}

// nearby reads keys of candidates that come in the order of their places: where
// the device is not mapped, many with one read.
type nearby struct {
	db   *DB
	from nvmap.Off
	b    []byte
}

// nearbyBytes is how much is read at once.
const nearbyBytes = 64 << 10

// keyOf returns the key of a candidate, which lies in its slot.
func (n *nearby) keyOf(c *candidate) []byte {
	at := headerBytes(c.flags)
	end := at + int(c.keyLen)
	if c.off < n.from || c.off+nvmap.Off(end) > n.from+nvmap.Off(len(n.b)) {
		n.move(c.off, end)
	}
	o := int(c.off - n.from)
	return n.b[o+at : o+end]
}

// move reads on from o, least bytes or more.
func (n *nearby) move(o nvmap.Off, least int) {
	size := int(min(n.db.m.Size()-int64(o), max(nearbyBytes, int64(least))))
	b, err := n.db.tryBytesAt(o, size)
	if err != nil { // of a neighbour
		b = n.db.bytesAt(o, least)
	}
	n.from, n.b = o, b
}

// claim makes every record that counts used before anything is allocated. What
// the checkpoint's maps call live in such a slot was superseded since.
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
	for i := range rc.salvagers {
		sv := &rc.salvagers[i]
		sv.each(func(c *candidate) {
			switch {
			case c.kind == kindClose: // R2
				db.tombs = append(db.tombs, c.off)
			case c.flags&flagSpill != 0 && c.kind != kindVoid && err == nil:
				err = sv.claimRuns(c)
			}
		})
	}
	return err
}

// claimRuns claims the runs of a candidate, and reads its key if that is there.
func (sv *salvager) claimRuns(c *candidate) error {
	rc := sv.rc
	var rec record
	if rc.db.readRecord(c.off, &rec) != nil {
		return nil
	}
	_, list := rec.extents()
	for _, e := range list {
		if rc.db.r.CheckExtent(e) == nil {
			rc.claimPages(e)
		}
	}
	if c.flags&flagSpillKey == 0 || !c.keyed() {
		return nil
	}
	key, _, err := rc.db.readRuns(&rec, nil)
	if err != nil {
		// Superseded and its runs reused; else Check misses the key.
		rc.damage(c.off, "runs of a record that may be superseded", nil)
		return nil
	}
	if rc.bare == nil {
		rc.bare = map[nvmap.Off][]byte{}
	}
	rc.bare[c.off] = bytes.Clone(key)
	return sv.lead(c, key)
}

// claimPages claims what is not claimed yet: a run may have been freed by one
// record and taken by the next, and both are candidates.
func (rc *recovery) claimPages(e alloc.Extent) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if !rc.db.r.IsUsed(o) {
			_ = rc.db.r.Claim(o, alloc.KindRun) // not a run slab any more: the record was superseded
		}
	}
}

// sort brings the candidates into the order of their leaves; those of leaf n
// begin at starts[n].
func (rc *recovery) sort() (sorted []candidate, starts []uint32, err error) {
	leaves := len(rc.route.leaves)
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

// partCandidates is how many candidates the leaves of a part have at least: no
// more than a part of the cache has frames, because a part is copied in one go.
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

// resolver works on one leaf at a time.
type resolver struct {
	rc    *recovery
	part  *resolved
	found [leafFanout]*candidate // newest candidate of each key of the leaf
	fresh []freshKey             // keys that are not in the leaf
	pages []nvmap.PageID         // see ask
}

// begin makes room for what comes of n candidates.
func (rv *resolver) begin(n int) {
	owners := len(rv.rc.salvagers)
	rv.part.owners = make([]slotChanges, owners)
	for i := range rv.part.owners {
		o := &rv.part.owners[i]
		o.displaced = make([]nvmap.Off, 0, n/owners+n/8)
		o.winners = make([]nvmap.Off, 0, n/owners+n/8)
	}
	rv.part.sets = make([]valueSet, 0, n)
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
	var pg *page
	if rc.st.root != 0 {
		var err error
		if pg, err = rc.db.ix.load(rc.route.leaves[leaf]); err != nil {
			return err
		}
		if pageLevel(pg) != 0 {
			return &CorruptError{Off: uint64(rc.route.leaves[leaf].page.Off()), Structure: "index page level"}
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

// ask asks for what the resolving of a leaf will read: its candidates, and the
// leaf itself where the device is not read in place.
func (rv *resolver) ask(leaf uint32, cs []candidate) {
	ix := &rv.rc.db.ix
	if ix.mapped {
		for i := range cs {
			ix.askRecord(cs[i].off)
		}
		return
	}
	rv.pages = rv.pages[:0]
	for i := range cs {
		rv.pages = ix.recordPages(rv.pages, cs[i].off)
	}
	if rv.rc.st.root != 0 {
		rv.pages = ix.childPages(rv.pages, rv.rc.route.leaves[leaf])
	}
	ix.m.ReadAhead(rv.pages)
}

// place finds a candidate's key in its leaf, or notes that it is not there.
func (rv *resolver) place(pg *page, c *candidate) error {
	rc := rv.rc
	rv.part.replayed++
	rv.part.bytes += int64(c.bytes)
	if c.kind == kindDelete && !rc.db.off(ruleR6Recovery) {
		rv.part.tombs = append(rv.part.tombs, c.ref()&^refTTL) // R6
	}
	key, err := rc.keyOf(c)
	if err != nil {
		return err
	}
	written := c.number
	if rc.db.off(ruleI42) {
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
	at, found, err := rc.db.ix.search(pg, key)
	if err != nil {
		return err
	}
	if !found {
		rv.fresh = append(rv.fresh, freshKey{key, c})
		return nil
	}
	if at >= leafFanout {
		return &CorruptError{Off: uint64(rc.route.leaves[c.leaf].page.Off()), Structure: "index page"}
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

// keyOf returns the key of a candidate. It aliases the medium.
func (rc *recovery) keyOf(c *candidate) ([]byte, error) {
	if c.flags&flagSpillKey != 0 {
		return rc.bare[c.off], nil
	}
	at := headerBytes(c.flags)
	b := rc.db.bytesAt(c.off, at+int(c.keyLen))
	if b == nil {
		return nil, &CorruptError{Off: uint64(c.off), Structure: "record offset"}
	}
	return b[at:], nil
}

// lose frees the slot of a candidate that a newer record supersedes. A
// tombstone stays (R6), and so does what belongs to the highest transaction, a
// group: until this opening's superblock says otherwise, the next one counts it.
func (rv *resolver) lose(c *candidate) {
	switch {
	case c.kind == kindDelete:
		rv.bury(c)
	case c.number == rv.rc.highest && c.flags&flagSpill != 0: // R2: of a group
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref(), keep: true})
	case c.number == rv.rc.highest:
		rv.part.tombs = append(rv.part.tombs, c.off)
	case c.flags&flagSpill != 0:
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref()})
	default:
		o := rv.owner(c.off)
		o.losers = append(o.losers, c.off)
	}
}

// bury is what a recovery without R6 does with a tombstone.
func (rv *resolver) bury(c *candidate) {
	if rv.rc.db.off(ruleR6Recovery) {
		o := rv.owner(c.off)
		o.losers = append(o.losers, c.off)
	}
}

// win makes a candidate the record of its key.
func (rv *resolver) win(c *candidate) {
	if c.flags&flagSpill != 0 {
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: c.ref(), won: true})
		return
	}
	o := rv.owner(c.off)
	o.winners = append(o.winners, c.off)
}

// displace takes the record that the checkpoint's tree names out of what the
// index reaches.
func (rv *resolver) displace(x ref) {
	if x&refSpill != 0 {
		rv.part.spilled = append(rv.part.spilled, spilledChange{ref: x, old: true})
		return
	}
	o := rv.owner(refOff(x))
	o.displaced = append(o.displaced, refOff(x))
}

// owner returns where changes of a slot are listed: those of one slab with the
// same goroutine.
func (rv *resolver) owner(o nvmap.Off) *slotChanges {
	n := len(rv.part.owners)
	return &rv.part.owners[rv.rc.db.r.SlabOf(o)/scanStride%n]
}

// update notes what becomes of the keys that the leaf has.
func (rv *resolver) update(leaf uint32, pg *page) error {
	swept := rv.rc.ranges.touch(leaf)
	vals := rv.rc.db.ix.vals(rv.rc.route.leaves[leaf].vals)
	sets := len(rv.part.sets)
	for at := range min(pageCount(pg), leafFanout) {
		c := rv.found[at]
		if c == nil && swept {
			if err := rv.sweep(pg, vals, at); err != nil {
				return err
			}
		}
		if c == nil {
			continue
		}
		rv.displace(valAt(vals, at))
		if c.kind == kindDelete {
			rv.bury(c)
			key, _ := rv.rc.keyOf(c)
			rv.part.changes = append(rv.part.changes, keyChange{key: key})
			continue
		}
		rv.win(c)
		rv.part.sets = append(rv.part.sets, valueSet{int32(at), c.ref()})
	}
	if n := len(rv.part.sets) - sets; n > 0 {
		rv.part.updates = append(rv.part.updates, leafUpdate{leaf: leaf, sets: n})
	}
	return nil
}

// sweep takes a key of the checkpoint's tree out if a range covers it: whatever
// the tree names is older.
func (rv *resolver) sweep(pg *page, vals *vblock, at int) error {
	key, _, err := rv.rc.db.ix.fullKey(pg, pageCount(pg), at)
	if err != nil || !rv.rc.ranges.cover(key, rv.rc.st.last, 0) {
		return err
	}
	rv.displace(valAt(vals, at))
	rv.part.changes = append(rv.part.changes, keyChange{key: key})
	return nil
}

// addFresh notes the keys that the leaf does not have.
func (rv *resolver) addFresh() {
	sortFresh(rv.fresh)
	for i, f := range rv.fresh {
		if i+1 < len(rv.fresh) && bytes.Equal(f.key, rv.fresh[i+1].key) {
			rv.lose(f.c)
			continue
		}
		if f.c.kind == kindDelete {
			rv.bury(f.c)
			continue
		}
		rv.win(f.c)
		rv.part.changes = append(rv.part.changes, keyChange{f.key, f.c.ref()})
	}
}

// sortFresh sorts by key, and records of one key by age, the oldest first.
func sortFresh(fresh []freshKey) {
	slices.SortFunc(fresh, func(a, b freshKey) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.c.number, b.c.number), cmp.Compare(a.c.ordinal, b.c.ordinal))
	})
}

// settle says which slots are used and which the index reaches from now on.
func (rc *recovery) settle(parts []resolved) error {
	r := rc.db.r
	err := rc.share(func(w int) error {
		// What a record displaced may be in the slot that another one won.
		for i := range parts {
			for _, o := range parts[i].owners[w].displaced {
				r.UnclaimLive(o) // not live: taken since by a record that counts
			}
		}
		for i := range parts {
			own := &parts[i].owners[w]
			for _, o := range own.losers {
				r.Unclaim(o)
			}
			for _, o := range own.winners {
				if err := r.ClaimLive(o, alloc.KindRecord); err != nil {
					return err
				}
			}
			*own = slotChanges{}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range parts {
		p := &parts[i]
		rc.db.tombs = append(rc.db.tombs, p.tombs...)
		rc.db.recovered.replayed += p.replayed
		rc.bytes += p.bytes
	}
	rc.settleSpilled(parts)
	return nil
}

// settleSpilled is settle for records with runs. A page may be named by one
// that was displaced and by a newer one.
func (rc *recovery) settleSpilled(parts []resolved) {
	var runs []alloc.Extent
	for i := range parts {
		for _, s := range parts[i].spilled {
			if !s.won {
				runs = append(runs, rc.displaceSpilled(s)...)
			}
		}
	}
	kept := map[nvmap.Off]struct{}{}
	for i := range parts {
		for _, s := range parts[i].spilled {
			if s.won {
				rc.winSpilled(s.ref, kept)
			}
		}
	}
	for _, x := range rc.db.tombs { // R6, I6
		if x&refSpill != 0 {
			rc.eachRun(x, func(o nvmap.Off) { rc.keepForTomb(o, kept) })
		}
	}
	for _, e := range runs {
		rc.eachUsed(e, func(o nvmap.Off) {
			if _, keep := kept[o]; !keep {
				rc.db.r.Unclaim(o)
			}
		})
	}
}

// keepForTomb keeps a page of a key that is not in the index. The checkpoint may
// have reached another record's bytes there, which were freed since; nothing
// reaches it now (R10).
func (rc *recovery) keepForTomb(o nvmap.Off, kept map[nvmap.Off]struct{}) {
	if _, won := kept[o]; !won {
		_ = rc.db.r.Retake(o, alloc.KindRun)
	}
	kept[o] = struct{}{}
}

// displaceSpilled takes a record out of what the index reaches and returns the
// runs that are free unless another record has them.
func (rc *recovery) displaceSpilled(s spilledChange) []alloc.Extent {
	db := rc.db
	o := refOff(s.ref)
	if s.old && !db.r.IsLive(o) {
		return nil // taken since by a record that counts
	}
	var rec record
	if db.readRecord(o, &rec) != nil {
		db.r.Unclaim(o)
		return nil
	}
	_ = db.r.Retake(o, alloc.KindRecord)
	switch {
	case s.keep || rec.flags&flagSpillKey != 0:
		db.tombs = append(db.tombs, s.ref&^refTTL) // I6
		rc.eachRun(s.ref, func(o nvmap.Off) { _ = db.r.Retake(o, alloc.KindRun) })
		return nil
	case rec.number <= db.frozenLast:
		db.tombs = append(db.tombs, o) // I5
	default:
		db.r.Unclaim(o)
	}
	var out []alloc.Extent
	_, list := rec.extents()
	for _, e := range list {
		if db.r.CheckExtent(e) == nil {
			out = append(out, e)
		}
	}
	return out
}

// winSpilled makes a record and its runs live; its pages are kept.
func (rc *recovery) winSpilled(x ref, kept map[nvmap.Off]struct{}) {
	db := rc.db
	_ = db.r.ClaimLive(refOff(x), alloc.KindRecord)
	rc.eachRun(x, func(o nvmap.Off) {
		_ = db.r.ClaimLive(o, alloc.KindRun)
		kept[o] = struct{}{}
		rc.bytes += nvmap.PageBytes
	})
}

// eachRun calls fn for the pages of a record's runs that are in use as such.
func (rc *recovery) eachRun(x ref, fn func(nvmap.Off)) {
	var rec record
	if rc.db.readRecord(refOff(x), &rec) != nil {
		return
	}
	_, list := rec.extents()
	for _, e := range list {
		if rc.db.r.CheckExtent(e) == nil {
			rc.eachUsed(e, fn)
		}
	}
}

// eachUsed calls fn for the pages of a run that are in use as such: their slabs
// may have been carved into something else since the run was freed.
func (rc *recovery) eachUsed(e alloc.Extent, fn func(nvmap.Off)) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if _, _, run := rc.db.r.Carve(o, alloc.KindRun); run && rc.db.r.IsUsed(o) {
			fn(o)
		}
	}
}

// apply changes the tree: value blocks first, whose leaves stay where they are,
// then the keys that come and go.
func (rc *recovery) apply(parts []resolved) error {
	if err := rc.copyBlocks(parts); err != nil {
		return err
	}
	if err := rc.linkBlocks(parts); err != nil {
		return err
	}
	for i := range parts {
		for _, ch := range parts[i].changes {
			if err := rc.change(ch); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyBlocks writes the value blocks that change, each at a new place: of as many
// parts at a time as there is room for in DRAM.
func (rc *recovery) copyBlocks(parts []resolved) error {
	// A frame may have a single new block, and reading leaves this many frames.
	most := rc.db.m.CacheFrames() / 8
	for len(parts) > 0 {
		n, blocks := 0, 0
		for n < len(parts) && (n == 0 || blocks+len(parts[n].updates) <= most) {
			blocks += len(parts[n].updates)
			n++
		}
		if err := rc.copySome(parts[:n], blocks); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// copySome is copyBlocks for parts with n blocks together.
func (rc *recovery) copySome(parts []resolved, n int) error {
	ix := &rc.db.ix
	if n == 0 {
		return nil
	}
	if err := rc.db.roomFor(n); err != nil {
		return err
	}
	if err := ix.reserve(0, n, true); err != nil {
		return err
	}
	blocks := slices.Clone(ix.blocks[len(ix.blocks)-n:]) // the next parts' come to stand there
	ix.blocks = ix.blocks[:len(ix.blocks)-n]
	slices.Sort(blocks)
	at := 0
	for i := range parts {
		// Two parts may have blocks in one page, which gets its frame here.
		if at < n && len(parts[i].updates) > 0 {
			if err := ix.frameOf(blocks[at:]); err != nil {
				return err
			}
		}
		more := len(parts[i].updates)
		parts[i].into = blocks[at : at+more]
		at += more
	}
	var next atomic.Int64
	return rc.share(func(int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(parts) {
				return nil
			}
			if err := rc.copyPart(&parts[i]); err != nil {
				return err
			}
		}
	})
}

// blocksPerPage is how many value blocks share a page.
const blocksPerPage = nvmap.PageBytes / alloc.BlockBytes

// frameOf gives the page of blocks[0] a frame. The device is read only where
// another block of that page counts.
func (ix *index) frameOf(blocks []nvmap.Off) error {
	id, ours := blocks[0].Page(), 0
	for ours < len(blocks) && blocks[ours].Page() == id {
		ours++
	}
	var err error
	if ours == blocksPerPage && ix.m.Where(id) == nvmap.OnDevice {
		_, err = ix.m.FreshFrame(id)
	} else {
		_, err = ix.valsFrame(uint64(blocks[0] / alloc.BlockBytes))
	}
	return err
}

func (rc *recovery) copyPart(p *resolved) error {
	ix := &rc.db.ix
	sets := p.sets
	for i, u := range p.updates {
		if i > 0 && p.into[i].Page() != p.into[i-1].Page() {
			if err := ix.frameOf(p.into[i:]); err != nil {
				return err
			}
		}
		b, err := ix.valsFrame(uint64(p.into[i] / alloc.BlockBytes))
		if err != nil {
			return err
		}
		*b = *ix.vals(rc.route.leaves[u.leaf].vals)
		setVbBirth(b, ix.epoch)
		for _, s := range sets[:u.sets] {
			setValAt(b, int(s.at), s.ref)
		}
		sets = sets[u.sets:]
	}
	return nil
}

// linkBlocks names the new value blocks in the parents of their leaves.
func (rc *recovery) linkBlocks(parts []resolved) error {
	ix := &rc.db.ix
	var p path
	var parent *page
	at, leaf := -1, uint32(0) // page of level 1, and its first leaf
	for i := range parts {
		into := parts[i].into
		for j, u := range parts[i].updates {
			k := rc.route.parent(u.leaf)
			if k != at {
				if err := rc.db.roomFor(ix.height); err != nil {
					return err
				}
				if err := ix.reserve(ix.height, 0, true); err != nil {
					return err
				}
				at, leaf = k, rc.route.levels[len(rc.route.levels)-1][k].first
				rc.wayTo(&p, u.leaf)
				var err error
				if parent, err = ix.own(&p, 1); err != nil {
					return err
				}
			}
			n, i := pageCount(parent), int(u.leaf-leaf)
			c := childAt(parent, n, i)
			old := c.valsOff()
			birth := vbBirthOf(ix.vals(c.vals))
			c.vals = uint64(into[j] / alloc.BlockBytes)
			setChildAt(parent, n, i, c)
			ix.r.SetLive(into[j])
			ix.retire(old, birth)
		}
		parts[i].updates, parts[i].into, parts[i].sets = nil, nil, nil
	}
	return nil
}

// parent returns the page above a leaf, as its number on level 1.
func (t *router) parent(leaf uint32) int {
	return t.above(t.levels[len(t.levels)-1], leaf)
}

func (t *router) above(level []routerPage, n uint32) int {
	k, equal := slices.BinarySearchFunc(level, n, func(p routerPage, n uint32) int { return cmp.Compare(p.first, n) })
	if !equal {
		k--
	}
	return k
}

// wayTo fills in the way to a leaf in the tree as it is now. Its inner pages
// were copied at most since the router listed them: entries are where they were.
func (rc *recovery) wayTo(p *path, leaf uint32) {
	ix, levels := &rc.db.ix, rc.route.levels
	var at [maxHeight]int
	n := leaf
	for l := len(levels) - 1; l >= 0; l-- {
		k := rc.route.above(levels[l], n)
		at[len(levels)-l] = int(n - levels[l][k].first)
		n = uint32(k)
	}
	id := ix.root
	for level := ix.height - 1; level > 0; level-- {
		p.steps[level] = step{id, at[level]}
		pg := ix.at(id)
		id = childAt(pg, pageCount(pg), at[level]).page
	}
}

// change adds a key or takes one out.
func (rc *recovery) change(ch keyChange) error {
	db := rc.db
	es := [1]entry{{key: ch.key}}
	pages, blocks := db.pagesFor(es[:])
	if err := db.roomFor(pages + blocks); err != nil {
		return err
	}
	if err := db.ix.reserve(pages, blocks, true); err != nil {
		return err
	}
	p := &db.way
	if err := db.ix.find(ch.key, p); err != nil {
		return err
	}
	var err error
	switch {
	case ch.ref == 0 && p.found:
		db.keys--
		_, err = db.ix.remove(p)
	case ch.ref != 0 && !p.found:
		db.keys++
		err = db.ix.insert(ch.key, ch.ref, p)
	}
	db.holders.sweep(db.freePage)
	return err
}
