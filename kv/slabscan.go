package kv

import (
	"runtime"
	"sync"
	"sync/atomic"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// The first half of a recovery is the scan: it reads every slab that was written since the
// checkpoint's freeze (R5), in address order, with one goroutine for each processor. It changes
// nothing. (The public Salvage is in rescue.go.)

// candidate is a record that the recovery found and that may count.
type candidate struct {
	number  record.Number
	off     nvmap.Off
	ordinal uint32
	leaf    uint32 // the leaf to which its key belongs; before lead: the hash of its key
	bytes   uint32
	keyLen  uint16
	kind    byte
	flags   byte
}

// kindVoid marks candidates of a transaction that is void.
const kindVoid = 0

// keyed says whether c decides about its key. Void records, closing records and ranges do not.
func (c *candidate) keyed() bool { return c.kind == record.KindPut || c.kind == record.KindDelete }

// older says whether c was written before d.
func (c *candidate) older(d *candidate) bool {
	return c.number < d.number || c.number == d.number && c.ordinal < d.ordinal
}

// ref returns the reference of c in the index.
func (c *candidate) ref() btree.Ref {
	x := c.off
	if c.flags&record.FlagSpill != 0 {
		x |= btree.RefSpill
	}
	if c.flags&record.FlagExpiry != 0 {
		x |= btree.RefTTL
	}
	return x
}

// salvager has the results of one goroutine.
type salvager struct {
	rc       *recovery
	blocks   [][]candidate // filled one after the other, so that nothing is copied
	counts   []uint32      // candidates by leaf
	highest  record.Number
	suspects []suspect // see findRotten
	scanned  int64
	damaged  []CorruptError
}

const (
	candidateBlock = 4096
	scanStride     = 16 // slabs that a goroutine takes at a time
)

// share runs fn(0), fn(1), ... in parallel, one call for each goroutine of the scan. It turns
// memory faults into errors.
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

// maxWorkers bounds the goroutines of a recovery, because each has a counter for every leaf.
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

// each calls fn for every candidate.
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

// oneByOne reads the readable slots of a slab that is not mapped and cannot be read in one piece.
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

// slots reads the slots of a slab from offset o on. It returns the offset at which to continue: the
// end, or the slot behind one that cannot be read. A line with a media error is not a torn record:
// the opening continues and reports it (R13).
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
		// Most slots of a slab are older than the checkpoint. They do not need a call.
		slot := b[o : o+s.SlotBytes]
		if n := record.NumberOf(slot); n <= sv.rc.st.last {
			if !sv.rc.db.ix.Mapped() { // on a mapped device lookBack reads it again
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
	var rec record.Record
	if !rec.Parse(slot) || !rc.db.fits(&rec, s.Class) || !rec.Sealed(slot, rc.db.seed, s.Carve, off) {
		// Torn, rotten or never written: no candidate. findRotten tells the first two apart.
		if rc.mayCount(record.NumberOf(slot)) {
			sv.suspect(s, off)
		}
		return
	}
	if rec.Number <= rc.st.last {
		return
	}
	if yes, undecided := rc.st.counts(rec.Number); !yes && !undecided {
		return
	}
	sv.highest = max(sv.highest, rec.Number)
	sv.add(candidate{number: rec.Number, off: off, ordinal: rec.Ordinal, leaf: keyHash(rec.Key), bytes: uint32(rec.Size),
		keyLen: uint16(rec.KeyLen), kind: rec.Kind, flags: rec.Flags})
}

func (sv *salvager) add(c candidate) {
	last := len(sv.blocks) - 1
	if last < 0 || len(sv.blocks[last]) == candidateBlock {
		sv.blocks = append(sv.blocks, make([]candidate, 0, candidateBlock))
		last++
	}
	sv.blocks[last] = append(sv.blocks[last], c)
}

// fits checks that a record's length chooses the class of its slot. A record that deletes may lie
// in a larger slot, because a full store keeps few slabs for those.
func (db *DB) fits(rec *record.Record, class alloc.ClassID) bool {
	c, ok := db.r.ClassFor(rec.Size)
	return ok && (c == class || c < class && rec.Kind != record.KindPut)
}
