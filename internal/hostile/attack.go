package hostile

import (
	"math/rand/v2"
	"slices"
)

// attack is a structured change. make returns false if the store lacks the structures for it.
type attack struct {
	name string
	make func(im *Image, rng *rand.Rand) bool
}

var attacks = []attack{
	{"a page is its own child", ownChild},
	{"two pages name each other", mutualChildren},
	{"all children are the first one", sameChild},
	{"a tree fans into itself", fanTree},
	{"a tree fans into an empty leaf", fanEmpty},
	{"a tree of single children", singleTree},
	{"a chain of overflow pages is a ring", ring},
	{"a chain of one overflow page", ringOfOne},
	{"two keys have one chain", sameChain},
	{"bits of a reference lie", referenceBits},
	{"a heap top lies outside its page", wildHeap},
	{"a count is the most", mostEntries},
	{"two leaves have one value block", sameBlock},
	{"two entries have one record", sameRecord},
	{"the root is an overflow page", overflowRoot},
	{"the root is a leaf", leafRoot},
	{"the height lies", wrongHeight},
	{"a size overflows", hugeSize},
	{"a number is in the future", futureRecord},
	{"a birth is in the future", futureBirth},
	{"keys are out of order", swappedKeys},
	{"separators are out of order", swappedSeparators},
	{"a run list is nil", nilList},
	{"a run list names itself", ownList},
	{"extents overlap", sameExtents},
	{"maps name nothing", emptyMaps},
	{"maps name everything", fullMaps},
	{"slabs are of another kind", otherKind},
	{"a cell is as long as its page", longCells},
	{"a prefix is of other keys", otherPrefix},
	{"a level lies", wrongLevel},
	{"a range covers everything", wholeRange},
}

// Attacks returns the names of the structured changes.
func Attacks() (names []string) {
	for _, a := range attacks {
		names = append(names, a.name)
	}
	return names
}

// Attack makes the n-th structured change. It returns false if the store lacks the structures for
// it.
func (im *Image) Attack(n int, rng *rand.Rand) bool {
	a := attacks[n%len(attacks)]
	im.say("%s", a.name)
	return a.make(im, rng)
}

// one returns a random part of a kind. ok is false if there is none.
func (im *Image) one(rng *rand.Rand, k partKind) (p part, ok bool) {
	of := im.byKind[k]
	if len(of) == 0 {
		return p, false
	}
	return im.parts[of[rng.IntN(len(of))]], true
}

// two returns different parts of a kind.
func (im *Image) two(rng *rand.Rand, k partKind) (p, q part, ok bool) {
	if len(im.byKind[k]) < 2 {
		return p, q, false
	}
	of := slices.Clone(im.byKind[k])
	rng.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return im.parts[of[0]], im.parts[of[1]], true
}

// nameChild makes entry i of the inner page at o refer to the page at to.
func (im *Image) nameChild(o, i, to int) {
	c := im.child(o, i)
	im.set(field{off: c, width: 5}, uint64(to/pageBytes))
	copy(im.b[c+10:c+12], im.b[to+pgBirth:])
}

func (im *Image) nameVals(o, i, to int) {
	c := im.child(o, i)
	im.set(field{off: c + 5, width: 5}, uint64(to/1024))
	le.PutUint16(im.b[c+12:], 0)
	if to != 0 {
		copy(im.b[c+12:c+14], im.b[to+8:])
	}
}

// super sets a field of all superblocks.
func (im *Image) super(at, width int, v uint64) {
	for _, p := range im.all(superblock) {
		im.set(field{off: p.off + at, width: width}, v)
	}
}

func (im *Image) setRoot(o int) {
	im.super(payloadRoot, 8, uint64(o/pageBytes))
	im.super(payloadBirth, 8, im.u64(o+pgBirth))
}

func ownChild(im *Image, rng *rand.Rand) bool {
	p, ok := im.one(rng, inner)
	if ok {
		i := rng.IntN(im.u16(p.off + pgCount))
		im.nameChild(p.off, i, p.off)
		if rng.IntN(2) == 0 {
			im.nameVals(p.off, i, 0)
		}
	}
	return ok
}

func mutualChildren(im *Image, rng *rand.Rand) bool {
	p, q, ok := im.two(rng, inner)
	if ok {
		im.nameChild(p.off, rng.IntN(im.u16(p.off+pgCount)), q.off)
		im.nameChild(q.off, rng.IntN(im.u16(q.off+pgCount)), p.off)
		if rng.IntN(2) == 0 {
			im.b[p.off+pgLevel] = im.b[q.off+pgLevel]
		}
	}
	return ok
}

func sameChild(im *Image, rng *rand.Rand) bool {
	all := rng.IntN(2) == 0
	for _, p := range im.all(inner) {
		if !all && rng.IntN(3) > 0 {
			continue
		}
		first := im.child(p.off, 0)
		for i := range im.u16(p.off + pgCount) {
			copy(im.b[im.child(p.off, i):][:childBytes], im.b[first:first+childBytes])
		}
	}
	return len(im.byKind[inner]) > 0
}

// freePages returns the offsets of slots for pages that the root does not reach.
func (im *Image) freePages() (out []int) {
	for _, s := range im.slabs {
		for o := s.off; s.kind == slabPages && o+pageBytes <= s.off+im.slabBytes; o += pageBytes {
			if _, taken := im.at[o]; !taken {
				out = append(out, o)
			}
		}
	}
	return out
}

// makeInner writes an inner page with n children that are all the page at to.
func (im *Image) makeInner(o, level, n, to, vals int) {
	clear(im.b[o : o+pageBytes])
	im.b[o+pgKind], im.b[o+pgLevel] = 1, byte(level)
	le.PutUint16(im.b[o+pgCount:], uint16(n))
	le.PutUint64(im.b[o+pgBirth:], im.u64(im.newest+payloadEpoch))
	le.PutUint64(im.b[o+pgSelf:], uint64(o/pageBytes))
	le.PutUint16(im.b[o+pgTop:], pageBytes)
	for i := range n {
		if i > 0 {
			le.PutUint32(im.b[o+pgHeader+4*i:], uint32(i)<<24)
			le.PutUint16(im.b[o+pgHeader+4*n+4*i+2:], 1)
		}
		le.PutUint16(im.b[o+pgHeader+4*n+4*i:], pageBytes)
		im.nameChild(o, i, to)
		im.nameVals(o, i, vals)
	}
	if _, ok := im.at[o]; !ok {
		im.add(part{kind: inner, off: o, fields: []field{{name: "level", off: o + pgLevel, width: 1}}})
	}
}

// dag makes a tree of the given height. All n children of a page are one and the same page, down to
// a leaf of the store.
func (im *Image) dag(rng *rand.Rand, height, n int, empty bool) bool {
	parent, at, ok := 0, 0, false
	for _, p := range im.all(inner) {
		if im.b[p.off+pgLevel] == 1 {
			parent, at, ok = p.off, rng.IntN(im.u16(p.off+pgCount)), true
		}
	}
	if !ok {
		return false
	}
	c := im.child(parent, at)
	below, vals := im.u40(c)*pageBytes, im.u40(c+5)*1024
	if empty {
		clear(im.b[below+pgHeader : below+pageBytes])
		le.PutUint16(im.b[below+pgCount:], 0)
		le.PutUint16(im.b[below+pgPrefix:], 0)
		le.PutUint16(im.b[below+pgGarbage:], 0)
		le.PutUint16(im.b[below+pgTop:], pageBytes)
	}
	level := 1
	for _, o := range append(im.freePages(), parent) {
		if level == height {
			break
		}
		if o == below {
			continue
		}
		im.makeInner(o, level, n, below, vals)
		below, vals = o, 0
		level++
	}
	im.setRoot(below)
	im.super(payloadHeight, 1, uint64(level))
	return true
}

func fanTree(im *Image, rng *rand.Rand) bool {
	return im.dag(rng, 3+rng.IntN(14), 2+rng.IntN(150), false)
}

func fanEmpty(im *Image, rng *rand.Rand) bool {
	return im.dag(rng, 3+rng.IntN(14), 2+rng.IntN(150), true)
}

func singleTree(im *Image, rng *rand.Rand) bool {
	return im.dag(rng, 3+rng.IntN(14), 1, rng.IntN(2) == 0)
}

func ring(im *Image, rng *rand.Rand) bool {
	p, q, ok := im.two(rng, overflow)
	if ok {
		for _, x := range [][2]int{{p.off, q.off}, {q.off, p.off}} {
			le.PutUint64(im.b[x[0]+pgNext:], uint64(x[1]/pageBytes))
			copy(im.b[x[1]+pgBirth:x[1]+pgBirth+8], im.b[p.off+pgBirth:])
			if rng.IntN(2) == 0 {
				le.PutUint16(im.b[x[0]+pgCount:], uint16(rng.IntN(2)))
			}
		}
	}
	return ok
}

func ringOfOne(im *Image, rng *rand.Rand) bool {
	p, ok := im.one(rng, overflow)
	if ok {
		le.PutUint64(im.b[p.off+pgNext:], uint64(p.off/pageBytes))
		if rng.IntN(2) == 0 {
			le.PutUint16(im.b[p.off+pgCount:], uint16(rng.IntN(2)))
		}
	}
	return ok
}

// longCells returns the offsets of the cells of long keys.
func (im *Image) longCells() (out []int) {
	for _, k := range []partKind{inner, leaf} {
		for _, p := range im.all(k) {
			for _, f := range p.fields {
				if f.name == "overflow" {
					out = append(out, f.off-2)
				}
			}
		}
	}
	return out
}

func sameChain(im *Image, rng *rand.Rand) bool {
	cells := im.longCells()
	if len(cells) < 2 {
		return false
	}
	from := cells[rng.IntN(len(cells))]
	for _, c := range cells {
		if rng.IntN(2) == 0 {
			copy(im.b[c:c+8], im.b[from:from+8])
		}
	}
	return true
}

func referenceBits(im *Image, rng *rand.Rand) bool {
	bits := byte(1 + rng.IntN(7))
	for range 1 + rng.IntN(8) {
		p, ok := im.one(rng, valueBlock)
		if !ok || len(p.fields) < 2 {
			continue
		}
		im.b[p.fields[1+rng.IntN(len(p.fields)-1)].off] ^= bits
	}
	return len(im.byKind[valueBlock]) > 0
}

func (im *Image) onePage(rng *rand.Rand) (part, bool) {
	if p, ok := im.one(rng, leaf); ok && rng.IntN(2) == 0 {
		return p, true
	}
	return im.one(rng, inner)
}

func wildHeap(im *Image, rng *rand.Rand) bool {
	p, ok := im.onePage(rng)
	if ok {
		le.PutUint16(im.b[p.off+pgTop:], []uint16{0, 31, 32, 4095, 4096, 4097, 65535, uint16(rng.IntN(65536))}[rng.IntN(8)])
		le.PutUint16(im.b[p.off+pgGarbage:], []uint16{0, 1, 4096, 65535, uint16(rng.IntN(65536))}[rng.IntN(5)])
	}
	return ok
}

func mostEntries(im *Image, rng *rand.Rand) bool {
	p, ok := im.onePage(rng)
	if ok {
		le.PutUint16(im.b[p.off+pgCount:], []uint16{0, 168, 169, 184, 185, 508, 509, 65535}[rng.IntN(8)])
		if rng.IntN(2) == 0 {
			le.PutUint16(im.b[p.off+pgTop:], 4096)
			le.PutUint16(im.b[p.off+pgPrefix:], 0)
			le.PutUint16(im.b[p.off+pgGarbage:], 0)
		}
	}
	return ok
}

// bottom returns an inner page of level 1.
func (im *Image) bottom(rng *rand.Rand) (o, n int, ok bool) {
	var of []int
	for _, p := range im.all(inner) {
		if im.b[p.off+pgLevel] == 1 {
			of = append(of, p.off)
		}
	}
	if len(of) == 0 {
		return 0, 0, false
	}
	o = of[rng.IntN(len(of))]
	return o, im.u16(o + pgCount), true
}

func sameBlock(im *Image, rng *rand.Rand) bool {
	o, n, ok := im.bottom(rng)
	if b, some := im.one(rng, valueBlock); ok && some {
		im.nameVals(o, rng.IntN(n), b.off)
		im.nameVals(o, rng.IntN(n), b.off)
		return true
	}
	return false
}

func sameRecord(im *Image, rng *rand.Rand) bool {
	p, q, ok := im.two(rng, valueBlock)
	if !ok || len(p.fields) < 2 || len(q.fields) < 2 {
		return false
	}
	for range 1 + rng.IntN(6) {
		from := p.fields[1+rng.IntN(len(p.fields)-1)]
		im.set(q.fields[1+rng.IntN(len(q.fields)-1)], im.get(from))
	}
	return true
}

func overflowRoot(im *Image, rng *rand.Rand) bool {
	p, ok := im.one(rng, overflow)
	if ok {
		im.setRoot(p.off)
		im.b[p.off+pgLevel] = []byte{0, 1, im.b[im.newest+payloadHeight] - 1, 15, 16, 255}[rng.IntN(6)]
	}
	return ok
}

func leafRoot(im *Image, rng *rand.Rand) bool {
	p, ok := im.one(rng, leaf)
	if ok {
		im.setRoot(p.off)
		im.super(payloadHeight, 1, uint64(rng.IntN(3)))
	}
	return ok
}

func wrongHeight(im *Image, rng *rand.Rand) bool {
	h := []uint64{0, 1, 2, 3, 4, 15, 16, 17, 255}[rng.IntN(9)]
	im.super(payloadHeight, 1, h)
	if root := int(im.u64(im.newest+payloadRoot)) * pageBytes; root != 0 && rng.IntN(2) == 0 {
		im.b[root+pgLevel] = byte(h - 1)
	}
	return true
}

func hugeSize(im *Image, rng *rand.Rand) bool {
	v := []uint64{1<<63 - 1, 1 << 63, ^uint64(0), 1 << 44, 1<<44 - 1, 1<<48 - 1, 1<<32 - 1, 1 << 31, 0}[rng.IntN(9)]
	at := [][2]int{
		{superSlabs, 4}, {superGroup, 4}, {superPayload, 4}, {superGen, 8}, {payloadAt, 4}, {payloadAt + 4, 2}, {payloadAt + 8, 8},
		{payloadLast, 8}, {payloadEpoch, 8}, {payloadKeys, 8}, {payloadLeaves, 8}, {payloadMaps, 8}, {payloadRoot, 8}, {payloadBirth, 8},
	}
	x := at[rng.IntN(len(at)+1)%len(at)]
	if rng.IntN(10) == 0 {
		im.set(field{off: 10, width: 6}, v)
		return true
	}
	im.super(x[0], x[1], v)
	return true
}

func futureRecord(im *Image, rng *rand.Rand) bool {
	runs := uint64(le.Uint32(im.b[im.newest+payloadAt:]))
	for range 1 + rng.IntN(10) {
		p, ok := im.one(rng, record)
		if !ok {
			return false
		}
		le.PutUint64(im.b[p.off+recNumber:], []uint64{^uint64(0), runs<<34 | 1<<34 - 1, (runs + 1) << 34, (runs+1)<<34 | 5, runs<<34 | rng.Uint64N(1<<34)}[rng.IntN(5)])
	}
	return true
}

func futureBirth(im *Image, rng *rand.Rand) bool {
	epoch := im.u64(im.newest+payloadEpoch) + 1 + rng.Uint64N(3)
	if rng.IntN(4) == 0 {
		epoch = ^uint64(0) - rng.Uint64N(2)
	}
	for _, p := range im.all(inner) {
		for i := range im.u16(p.off + pgCount) {
			c := im.child(p.off, i)
			le.PutUint16(im.b[c+10:], uint16(epoch))
			if im.u40(c+5) != 0 {
				le.PutUint16(im.b[c+12:], uint16(epoch))
			}
		}
	}
	at := map[partKind]int{inner: pgBirth, leaf: pgBirth, valueBlock: 8}
	for k, o := range at {
		for _, p := range im.all(k) {
			le.PutUint64(im.b[p.off+o:], epoch)
		}
	}
	im.super(payloadBirth, 8, epoch)
	return len(im.byKind[inner]) > 0
}

func (im *Image) swapKeys(rng *rand.Rand, k partKind, from int) bool {
	p, ok := im.one(rng, k)
	if !ok {
		return false
	}
	n := im.u16(p.off + pgCount)
	if n < from+2 {
		return false
	}
	for range 1 + rng.IntN(3) {
		i, j := from+rng.IntN(n-from), from+rng.IntN(n-from)
		for _, o := range []int{p.off + pgHeader, p.off + pgHeader + 4*n} {
			a, b := le.Uint32(im.b[o+4*i:]), le.Uint32(im.b[o+4*j:])
			if rng.IntN(4) > 0 {
				a, b = b, a
			} else {
				b = a // two references to one key
			}
			le.PutUint32(im.b[o+4*i:], a)
			le.PutUint32(im.b[o+4*j:], b)
		}
	}
	return true
}

func swappedKeys(im *Image, rng *rand.Rand) bool       { return im.swapKeys(rng, leaf, 0) }
func swappedSeparators(im *Image, rng *rand.Rand) bool { return im.swapKeys(rng, inner, rng.IntN(2)) }

// lists returns the offsets of run lists, in records and in runs.
func (im *Image) lists() (out []int) {
	for _, k := range []partKind{record, runList} {
		for _, p := range im.all(k) {
			for _, f := range p.fields {
				if f.name == "levels" {
					out = append(out, f.off-4)
				}
			}
		}
	}
	return out
}

func (im *Image) oneList(rng *rand.Rand) (o int, ok bool) {
	l := im.lists()
	if len(l) == 0 {
		return 0, false
	}
	return l[rng.IntN(len(l))], true
}

func nilList(im *Image, rng *rand.Rand) bool {
	o, ok := im.oneList(rng)
	if ok {
		le.PutUint32(im.b[o+6:], []uint32{0, 0, 1 << 31, ^uint32(0)}[rng.IntN(4)])
		im.b[o+4] = byte(rng.IntN(5))
	}
	return ok
}

func ownList(im *Image, rng *rand.Rand) bool {
	o, ok := im.oneList(rng)
	if ok {
		im.set(field{off: o + 10, width: 6}, uint64(o)&^(pageBytes-1))
		im.b[o+4] = byte(rng.IntN(4))
	}
	return ok
}

func sameExtents(im *Image, rng *rand.Rand) bool {
	a, ok := im.oneList(rng)
	if !ok {
		return false
	}
	for _, b := range im.lists() {
		copy(im.b[b+10:b+16], im.b[a+10:a+16])
		if rng.IntN(3) == 0 {
			le.PutUint32(im.b[b+16:], []uint32{0, 1, 1 << 20, ^uint32(0)}[rng.IntN(4)])
		}
	}
	return true
}

func (im *Image) fillMaps(w uint64) bool {
	for _, p := range im.all(slabMap) {
		for o := 16; o < im.mapLen(p.off); o += 8 {
			le.PutUint64(im.b[p.off+o:], w)
		}
	}
	return true
}

func emptyMaps(im *Image, rng *rand.Rand) bool { return im.fillMaps(0) }
func fullMaps(im *Image, rng *rand.Rand) bool  { return im.fillMaps(^uint64(0)) }

func otherKind(im *Image, rng *rand.Rand) bool {
	for range 1 + rng.IntN(3) {
		p, ok := im.one(rng, descriptor)
		if !ok {
			return false
		}
		im.b[p.off+4] = byte(rng.IntN(16))<<4&0xf0 | byte(rng.IntN(5))
		im.b[p.off+5] &= 0xf0
	}
	return true
}

func longCells(im *Image, rng *rand.Rand) bool {
	p, ok := im.onePage(rng)
	if !ok || im.u16(p.off+pgCount) == 0 {
		return false
	}
	n := im.u16(p.off + pgCount)
	for range 1 + rng.IntN(n) {
		s := p.off + pgHeader + 4*n + 4*rng.IntN(n)
		le.PutUint16(im.b[s+2:], []uint16{3, 901, 4000, 4096, 65279, longCell, longCell + 1, 65535}[rng.IntN(8)])
		if rng.IntN(2) == 0 {
			le.PutUint16(im.b[s:], uint16(rng.IntN(pageBytes)))
		}
	}
	return true
}

func otherPrefix(im *Image, rng *rand.Rand) bool {
	p, ok := im.onePage(rng)
	if !ok {
		return false
	}
	old := im.u16(p.off + pgPrefix)
	n := rng.IntN(256)
	if rng.IntN(2) == 0 {
		n = rng.IntN(old + 8)
	}
	le.PutUint16(im.b[p.off+pgPrefix:], uint16(n))
	for i := range n {
		if rng.IntN(4) == 0 {
			im.b[p.off+pageBytes-1-i] ^= byte(rng.IntN(256))
		}
	}
	return true
}

func wrongLevel(im *Image, rng *rand.Rand) bool {
	p, ok := im.onePage(rng)
	if ok {
		im.b[p.off+pgLevel] = []byte{0, 1, 2, 3, 15, 16, 17, 255}[rng.IntN(8)]
		im.b[p.off+pgKind] = []byte{1, 2, 3, 0, 255, im.b[p.off+pgKind]}[rng.IntN(6)]
	}
	return ok
}

func wholeRange(im *Image, rng *rand.Rand) bool {
	p, ok := im.one(rng, record)
	if ok {
		im.b[p.off+recKind] = byte(rng.IntN(6))
		im.b[p.off+recFlags] ^= byte(rng.IntN(32))
	}
	return ok
}
