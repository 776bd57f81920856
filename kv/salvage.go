package kv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Salvaging is the first half of a recovery: reading every slab that was
// written since the checkpoint's freeze (R5), in address order and on as many
// processors as there are. Nothing is changed meanwhile.

// candidate is a record that recovery found and that may count.
type candidate struct {
	number  number
	off     nvmap.Off
	ordinal uint32
	leaf    uint32 // where its key belongs, by router; before that its key's hash
	bytes   uint32
	keyLen  uint16
	kind    byte
	flags   byte
}

// kindVoid marks candidates of a transaction that did not end.
const kindVoid = 0

// keyed says whether c decides what its key is worth. Void ones, closing records
// and ranges do not.
func (c *candidate) keyed() bool { return c.kind == kindPut || c.kind == kindDelete }

// older says whether c was written before d.
func (c *candidate) older(d *candidate) bool {
	return c.number < d.number || c.number == d.number && c.ordinal < d.ordinal
}

// ref is what the index stores for c.
func (c *candidate) ref() ref {
	x := c.off
	if c.flags&flagSpill != 0 {
		x |= refSpill
	}
	if c.flags&flagExpiry != 0 {
		x |= refTTL
	}
	return x
}

// salvager is what one goroutine found.
type salvager struct {
	rc       *recovery
	blocks   [][]candidate // filled one after the other, so that nothing is copied
	counts   []uint32      // candidates by leaf
	highest  number
	suspects []suspect // see findRotten
	scanned  int64
	damaged  []CorruptError
}

const (
	candidateBlock = 4096
	scanStride     = 16 // slabs that a goroutine takes at a time
)

// share runs fn(0), fn(1), … beside each other, one for each processor, with
// memory faults made errors.
func (rc *recovery) share(fn func(worker int) error) error {
	n := len(rc.salvagers)
	errs := make([]error, n)
	run := func(i int) {
		defer rc.db.guarded("recover", panicOnFault(true), &errs[i])
		errs[i] = fn(i)
	}
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { run(i) })
	}
	run(0)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxWorkers bounds the goroutines of a recovery: each counts by leaf.
const maxWorkers = 16

// scan reads the slabs that were written since the checkpoint's freeze.
func (rc *recovery) scan() error {
	slabs := rc.db.r.Marked(rc.st.interval)
	workers := min(runtime.GOMAXPROCS(0), maxWorkers, 1+len(slabs)/scanStride)
	rc.salvagers = make([]salvager, workers)
	var next atomic.Int64
	err := rc.share(func(w int) error {
		sv := &rc.salvagers[w]
		sv.rc = rc
		for {
			from := int(next.Add(scanStride)) - scanStride
			if from >= len(slabs) {
				return nil
			}
			for _, s := range slabs[from:min(from+scanStride, len(slabs))] {
				sv.slab(s)
			}
		}
	})
	for i := range rc.salvagers {
		sv := &rc.salvagers[i]
		rc.db.recovered.scanned += sv.scanned
		for _, d := range sv.damaged {
			rc.damage(nvmap.Off(d.Off), d.Structure, d.Key)
		}
	}
	return err
}

// each calls fn for every candidate, by goroutine.
func (rc *recovery) each(fn func(*candidate)) {
	for i := range rc.salvagers {
		rc.salvagers[i].each(fn)
	}
}

// any says whether there are candidates.
func (rc *recovery) any() bool {
	for i := range rc.salvagers {
		if len(rc.salvagers[i].blocks) > 0 {
			return true
		}
	}
	return false
}

func (sv *salvager) each(fn func(*candidate)) {
	for _, b := range sv.blocks {
		for i := range b {
			fn(&b[i])
		}
	}
}

func (sv *salvager) slab(s alloc.SlabInfo) {
	n := s.Slots * s.SlotBytes
	b, err := sv.rc.db.tryBytesAt(s.Off, n)
	if b == nil && err == nil {
		return
	}
	sv.scanned += int64(n)
	if err != nil {
		sv.oneByOne(s, n)
		return
	}
	for o := 0; o < n; {
		o = sv.slots(s, b, o)
	}
}

// oneByOne reads what can be read of a slab that is not mapped and cannot be
// read in one piece.
func (sv *salvager) oneByOne(s alloc.SlabInfo, n int) {
	for o := 0; o < n; o += s.SlotBytes {
		off := s.Off + nvmap.Off(o)
		slot, err := sv.rc.db.tryBytesAt(off, s.SlotBytes)
		if err != nil {
			sv.unreadable(off)
		} else {
			sv.slot(s, slot, off)
		}
	}
}

func (sv *salvager) unreadable(o nvmap.Off) {
	sv.damaged = append(sv.damaged, CorruptError{Off: uint64(o), Structure: "record slot, which cannot be read"})
}

// slots reads the slots of a slab from offset o on, and returns where to go
// on: behind the last, or behind one that cannot be read. A poisoned line is
// not a torn record: whatever it held, opening goes on and says so (R13).
func (sv *salvager) slots(s alloc.SlabInfo, b []byte, o int) (next int) {
	defer func() {
		if r := recover(); r != nil {
			if sv.rc.db.fault(r, "recover") == nil {
				panic(r)
			}
			sv.unreadable(s.Off + nvmap.Off(o))
			next = o + s.SlotBytes
		}
	}()
	for ; o < len(b); o += s.SlotBytes {
		// Most slots of a slab are older than the checkpoint: no need to call.
		slot := b[o : o+s.SlotBytes]
		if n := number(binary.LittleEndian.Uint64(slot[recNumber:])); n <= sv.rc.st.last {
			if !sv.rc.db.ix.mapped { // else lookBack reads it again
				sv.old(s, slot, s.Off+nvmap.Off(o))
			}
			continue
		}
		sv.slot(s, slot, s.Off+nvmap.Off(o))
	}
	return o
}

func (sv *salvager) slot(s alloc.SlabInfo, slot []byte, off nvmap.Off) {
	rc := sv.rc
	var rec record
	if !rec.parse(slot) || !rc.db.fits(&rec, s.Class) || !rec.sealed(slot, rc.db.seed, s.Carve, off) {
		if rc.mayCount(number(binary.LittleEndian.Uint64(slot[recNumber:]))) {
			sv.suspect(s, off)
		}
		return
	}
	if rec.number <= rc.st.last {
		return
	}
	if yes, undecided := rc.st.counts(rec.number); !yes && !undecided {
		return
	}
	sv.highest = max(sv.highest, rec.number)
	sv.add(candidate{number: rec.number, off: off, ordinal: rec.ordinal, leaf: keyHash(rec.key), bytes: uint32(rec.size),
		keyLen: uint16(rec.keyLen), kind: rec.kind, flags: rec.flags})
}

func (sv *salvager) add(c candidate) {
	last := len(sv.blocks) - 1
	if last < 0 || len(sv.blocks[last]) == candidateBlock {
		sv.blocks = append(sv.blocks, make([]candidate, 0, candidateBlock))
		last++
	}
	sv.blocks[last] = append(sv.blocks[last], c)
}

// fits demands that the record's length chooses the very class it lies in.
func (db *DB) fits(rec *record, class alloc.ClassID) bool {
	c, ok := db.r.ClassFor(rec.size)
	return ok && c == class
}

// router leads keys to the leaves of a tree that stands still, whose inner
// pages it has listed level by level: leaf n is the n-th in key order.
type router struct {
	ix     *index
	levels [][]routerPage // from the root down
	leaves []child

	// To the lowest inner page a key is led by arrays: what the first keys of
	// those pages have in common, the eight bytes behind it, and all of them.
	prefix []byte
	leads  []uint64
	lows   [][]byte // of page n+1
}

type routerPage struct {
	id    nvmap.PageID
	pg    *page
	low   []byte // first key that belongs below it; nil: open
	first uint32 // number of its first child among those of its level
}

// load lists the inner pages of the checkpoint's tree. Without a checkpoint
// there is one leaf, which is empty.
func (t *router) load(rc *recovery) error {
	ix := &rc.db.ix
	t.ix = ix
	if rc.st.root == 0 {
		t.leaves = make([]child, 1)
		return nil
	}
	pages := []routerPage{{id: ix.root}}
	for level := ix.height - 1; level > 0; level-- {
		below, leaves, err := t.loadLevel(pages, level)
		if err != nil {
			return err
		}
		t.levels = append(t.levels, pages)
		pages, t.leaves = below, leaves
	}
	t.loadLeads(t.levels[len(t.levels)-1])
	return nil
}

// loadLevel reads the pages of a level and returns the ones below; on level 1
// these are the leaves.
func (t *router) loadLevel(pages []routerPage, level int) (below []routerPage, leaves []child, err error) {
	children := 0
	for i := range pages {
		if i%childrenMost == 0 {
			t.ask(pages[i:])
		}
		p := &pages[i]
		if p.pg, err = t.ix.load(child{page: p.id}); err != nil {
			return nil, nil, err
		}
		if pageLevel(p.pg) != level {
			return nil, nil, &CorruptError{Off: uint64(p.id.Off()), Structure: "index page level"}
		}
		p.first = uint32(children)
		n := pageCount(p.pg)
		children += n
		if level == 1 {
			leaves = slices.Grow(leaves, n)
			for j := range n {
				leaves = append(leaves, childAt(p.pg, n, j))
			}
			continue
		}
		for j := range n {
			low := p.low
			if j > 0 {
				if low, _, err = t.ix.fullKey(p.pg, n, j); err != nil {
					return nil, nil, err
				}
			}
			below = append(below, routerPage{id: childAt(p.pg, n, j).page, low: low})
		}
	}
	return below, leaves, nil
}

// ask has the first of these pages read together.
func (t *router) ask(pages []routerPage) {
	if t.ix.mapped {
		return
	}
	var ps []nvmap.PageID
	for _, p := range pages[:min(len(pages), childrenMost)] {
		ps = t.ix.childPages(ps, child{page: p.id})
	}
	t.ix.m.ReadAhead(ps)
}

func (t *router) loadLeads(pages []routerPage) {
	if len(pages) < 2 {
		return
	}
	first, last := pages[1].low, pages[len(pages)-1].low
	t.prefix = first[:commonPrefix(first, last)]
	for _, p := range pages[1:] {
		t.lows = append(t.lows, p.low)
		t.leads = append(t.leads, leadOf(p.low[len(t.prefix):]))
	}
}

// lowest returns the number of the lowest inner page below which key belongs.
func (t *router) lowest(key []byte) int {
	if len(t.lows) == 0 {
		return 0
	}
	if n := len(t.prefix); !bytes.HasPrefix(key, t.prefix) {
		if bytes.Compare(key[:min(n, len(key))], t.prefix) < 0 {
			return 0
		}
		return len(t.lows)
	}
	lead := leadOf(key[len(t.prefix):])
	lo := lowerLead(t.leads, lead)
	if lo == len(t.leads) || t.leads[lo] != lead {
		return lo
	}
	hi := len(t.leads)
	if lead != ^uint64(0) {
		hi = lowerLead(t.leads, lead+1)
	}
	same, equal := slices.BinarySearchFunc(t.lows[lo:hi], key, bytes.Compare)
	if equal {
		same++
	}
	return lo + same
}

// lowerLead returns the first of leads that is not below lead. As in lowerHead,
// no branch depends on what is read.
func lowerLead(leads []uint64, lead uint64) int {
	lo, n := 0, len(leads)
	for n > 1 {
		half := n >> 1
		_, below := bits.Sub64(leads[lo+half-1], lead, 0)
		lo += half & -int(below)
		n -= half
	}
	if n == 1 && leads[lo] < lead {
		lo++
	}
	return lo
}

// leaf returns the number of the leaf to which key belongs.
func (t *router) leaf(key []byte) (uint32, error) {
	if len(t.levels) == 0 {
		return 0, nil
	}
	p := &t.levels[len(t.levels)-1][t.lowest(key)]
	i, err := t.ix.childIndex(p.pg, key)
	return p.first + uint32(i), err
}
