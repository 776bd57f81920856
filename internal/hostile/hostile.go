// Package hostile changes the file of a store and makes every checksum right again, as an adversary
// would, so that no checksum reveals the change. It works on the bytes, by docs/format.md, and
// shares no code with the packages under test.
//
// An [Image] lists the structures of a store with their fields. [Image.Change] changes fields at
// random, [Image.Attack] makes one of the structured changes that [Attacks] names, and
// [Image.Bytes] makes the checksums right.
package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const pageBytes = 4096

// These are the kinds of slabs.
const (
	slabRecords = 1
	slabPages   = 2
	slabBlocks  = 3
	slabRuns    = 4
)

// Image is the bytes of a store, with a list of its structures.
type Image struct {
	b    []byte
	seed uint64

	newest     int // offset of a good copy of the newest superblock
	slabBytes  int
	groupSlabs int
	first      int // offset of slab 0
	metaSlabs  int
	mapBytes   int
	sizes      []int // of record slots, by class
	slabs      []slab

	parts    []part
	byKind   map[partKind][]int // indices into parts
	at       map[int]int        // part by offset: pages, blocks, overflow pages, records
	said     []string           // descriptions of the changes
	noDigest bool               // the digest of the maps is left unchanged
}

type slab struct {
	off, kind, class, carve, slot int
}

// part is a structure with a checksum or check bits of its own.
type part struct {
	kind   partKind
	off    int
	slab   int // slab number of maps, descriptors and records
	size   int // sealed bytes of records
	sumAt  int // of a list in runs: offset of its checksum in the list above
	fields []field
}

type partKind int

// These are the kinds of parts.
const (
	superblock partKind = iota
	sizeWord
	groupHeader
	descriptor
	slabMap
	inner
	leaf
	overflow
	valueBlock
	record
	runList
	partKinds
)

var partNames = [partKinds]string{"superblock", "size word", "group header", "descriptor", "slab map", "inner page", "leaf", "overflow page", "value block", "record", "run list"}

func (p *part) String() string { return fmt.Sprintf("%s at %#x", partNames[p.kind], p.off) }

// field is a number in a structure.
type field struct {
	name       string
	off, width int
	means      meaning
}

type meaning int

// These are the meanings of a field's number.
const (
	number meaning = iota
	pageNumber
	blockNumber
	recordRef
	offset
)

func (im *Image) get(f field) uint64 {
	var w [8]byte
	copy(w[:f.width], im.b[f.off:])
	return le.Uint64(w[:])
}

func (im *Image) set(f field, v uint64) {
	var w [8]byte
	le.PutUint64(w[:], v)
	copy(im.b[f.off:f.off+f.width], w[:f.width])
}

func (im *Image) u16(o int) int    { return int(le.Uint16(im.b[o:])) }
func (im *Image) u64(o int) uint64 { return le.Uint64(im.b[o:]) }

// u40 and u48 read numbers of five and six bytes.
func (im *Image) u40(o int) int { return int(im.get(field{off: o, width: 5})) }
func (im *Image) u48(o int) int { return int(im.get(field{off: o, width: 6})) }

// New reads a store, which must be sound. The Image then owns the bytes.
func New(b []byte) (im *Image, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("hostile: the store is none that docs/format.md describes: %v", r)
		}
	}()
	im = &Image{b: b, byKind: map[partKind][]int{}, at: map[int]int{}}
	if !im.readSupers() {
		return nil, errors.New("hostile: no superblock")
	}
	im.readSpace()
	im.readTree()
	im.readRecords()
	return im, nil
}

// Clone returns an independent Image of the same store.
func (im *Image) Clone() *Image {
	c := *im
	c.b = slices.Clone(im.b)
	c.parts, c.slabs = slices.Clone(im.parts), slices.Clone(im.slabs)
	c.at, c.byKind = maps.Clone(im.at), maps.Clone(im.byKind)
	for k, parts := range c.byKind {
		c.byKind[k] = slices.Clip(parts)
	}
	c.said = nil
	return &c
}

func (im *Image) add(p part) {
	im.byKind[p.kind] = append(im.byKind[p.kind], len(im.parts))
	im.at[p.off] = len(im.parts)
	im.parts = append(im.parts, p)
}

// all returns the parts of a kind.
func (im *Image) all(k partKind) []part {
	out := make([]part, 0, len(im.byKind[k]))
	for _, i := range im.byKind[k] {
		out = append(out, im.parts[i])
	}
	return out
}

func superSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[12:pageBytes], castagnoli), castagnoli, b[:8])
}

// These are offsets in a superblock.
const (
	superSum32     = 8
	superID        = 24
	superGen       = 40
	superSlabs     = 48
	superGroup     = 52
	superPayload   = 56
	payloadAt      = 80
	payloadHeight  = payloadAt + 6
	payloadLast    = payloadAt + 16
	payloadRoot    = payloadAt + 24
	payloadEpoch   = payloadAt + 32
	payloadKeys    = payloadAt + 40
	payloadLeaves  = payloadAt + 48
	payloadMaps    = payloadAt + 56
	payloadDigest  = payloadAt + 64
	payloadBirth   = payloadAt + 72
	payloadEnded   = payloadAt + 128
	groupHeaderLen = 64
)

func (im *Image) readSupers() bool {
	best := uint64(0)
	for slot := range 4 {
		o := pageBytes * (slot + 1)
		if le.Uint32(im.b[o+superSum32:]) != superSum(im.b[o:]) {
			continue
		}
		if g := im.u64(o + superGen); im.newest == 0 || g > best {
			im.newest, best = o, g
		}
		p := part{kind: superblock, off: o}
		for _, f := range []field{
			{name: "generation", off: superGen, width: 8}, {name: "slab bytes", off: superSlabs, width: 4},
			{name: "group slabs", off: superGroup, width: 4}, {name: "payload bytes", off: superPayload, width: 4},
			{name: "run", off: payloadAt, width: 4}, {name: "ended runs", off: payloadAt + 4, width: 2},
			{name: "height", off: payloadHeight, width: 1}, {name: "flags", off: payloadAt + 7, width: 1},
			{name: "interval", off: payloadAt + 8, width: 8}, {name: "last", off: payloadLast, width: 8},
			{name: "root", off: payloadRoot, width: 8, means: pageNumber}, {name: "epoch", off: payloadEpoch, width: 8},
			{name: "keys", off: payloadKeys, width: 8}, {name: "leaves", off: payloadLeaves, width: 8},
			{name: "maps", off: payloadMaps, width: 8}, {name: "digest", off: payloadDigest, width: 8},
			{name: "root birth", off: payloadBirth, width: 8},
			{name: "ended run", off: payloadEnded, width: 4}, {name: "last counter", off: payloadEnded + 4, width: 8},
		} {
			f.off += o
			p.fields = append(p.fields, f)
		}
		im.add(p)
	}
	return im.newest != 0
}

func (im *Image) readSpace() {
	im.seed = im.u64(im.newest + superID)
	b, g := int(le.Uint32(im.b[im.newest+superSlabs:])), int(le.Uint32(im.b[im.newest+superGroup:]))
	im.slabBytes, im.groupSlabs = b, g
	im.first = (20480 + b - 1) / b * b
	im.mapBytes = (16 + b/256 + 15) / 16 * 16
	im.metaSlabs = (groupHeaderLen + g*(64+2*im.mapBytes) + b - 1) / b
	im.sizes = classes(b)
	im.add(part{kind: sizeWord, off: 8, fields: []field{{name: "slabs", off: 10, width: 6}}})
	for i := range int(im.u64(8) >> 16) {
		if i%g == 0 {
			o := im.first + i*b
			im.add(part{kind: groupHeader, off: o, fields: []field{{name: "index", off: o + 24, width: 8}, {name: "slab bytes", off: o + 32, width: 4}, {name: "group slabs", off: o + 36, width: 4}}})
		}
		im.readSlab(i)
	}
}

func classes(b int) (sizes []int) {
	t := b / 8
	for s := 32; s <= min(256, t); s += 8 {
		sizes = append(sizes, s)
	}
	for d := 256; d < t; d *= 2 {
		for s := d + d/16; s <= min(2*d, t); s += d / 16 {
			sizes = append(sizes, s)
		}
	}
	for _, n := range []int{7, 6, 5, 4} {
		sizes = append(sizes, b/n/8*8)
	}
	return sizes
}

func (im *Image) slotBytes(kind, class int) int {
	switch kind {
	case slabRecords:
		if class < len(im.sizes) {
			return im.sizes[class]
		}
	case slabPages, slabRuns:
		return pageBytes
	case slabBlocks:
		return 1024
	}
	return 0
}

func (im *Image) readSlab(i int) {
	g := im.groupSlabs
	s := slab{off: im.first + i*im.slabBytes}
	base := im.first + i/g*g*im.slabBytes + groupHeaderLen
	d := base + i%g*64
	if w, v := im.u64(d), im.u64(d+16); i%g >= im.metaSlabs {
		if uint32(v) > uint32(w) {
			w = v
		}
		s.carve, s.kind, s.class = int(uint32(w)), int(w>>32&15), int(w>>36&255)
		s.slot = im.slotBytes(s.kind, s.class)
		im.add(part{kind: descriptor, off: d, slab: i, fields: []field{
			{name: "carve", off: d, width: 4}, {name: "kind and class", off: d + 4, width: 2}, {name: "mark", off: d + 8, width: 5},
		}})
		for place := range 2 {
			o := base + g*64 + (2*(i%g)+place)*im.mapBytes
			p := part{kind: slabMap, off: o, slab: i, fields: []field{
				{name: "generation", off: o, width: 6}, {name: "kind", off: o + 6, width: 1}, {name: "class", off: o + 7, width: 1}, {name: "carve", off: o + 8, width: 4},
			}}
			for w := 16; w < im.mapLen(o); w += 8 {
				p.fields = append(p.fields, field{name: "words", off: o + w, width: 8})
			}
			im.add(p)
		}
	}
	im.slabs = append(im.slabs, s)
}

// mapLen returns the length of the map at o, computed from its own fields.
func (im *Image) mapLen(o int) int {
	n := im.slotBytes(int(im.b[o+6]), int(im.b[o+7]))
	if n == 0 {
		return 16
	}
	return min(16+(im.slabBytes/n+63)/64*8, im.mapBytes)
}

// slabOf returns the slab of an offset, or nil if it is in none.
func (im *Image) slabOf(o int) *slab {
	i := (o - im.first) / im.slabBytes
	if o < im.first || i >= len(im.slabs) {
		return nil
	}
	return &im.slabs[i]
}

func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x
}

func (im *Image) placeTag(o, carve int) uint32 {
	return uint32(mix(im.seed^uint64(o)*0x9e3779b97f4a7c15^uint64(carve)*0xc2b2ae3d27d4eb4f) >> 32)
}

func (im *Image) placeSum(o, n int) uint32 {
	return crc32.Checksum(im.b[o+4:o+n], castagnoli) ^ im.placeTag(o, 0)
}
