package layout

import (
	"encoding/binary"
	"hash/crc32"
)

// Geometry is where slabs are, by the formulas of the document.
type Geometry struct {
	SlabBytes, GroupSlabs  int
	First                  int // offset of slab 0
	MetaSlabs, MapBytes    int
	slotsOfRecords         []int
	groupHeader, descBytes int
}

// Geometry returns where things are in a store of these sizes.
func (d *Dump) Geometry(slabBytes, groupSlabs int) Geometry {
	g := Geometry{
		SlabBytes: slabBytes, GroupSlabs: groupSlabs,
		First:          up(20480, slabBytes),
		MapBytes:       up(16+slabBytes/256, 16),
		slotsOfRecords: recordSlots(slabBytes),
		groupHeader:    d.doc.Size(d.t, "Group header"),
		descBytes:      d.doc.Size(d.t, "Descriptor"),
	}
	g.MetaSlabs = up(g.groupHeader+groupSlabs*(g.descBytes+2*g.MapBytes), slabBytes) / slabBytes
	return g
}

func up(n, to int) int { return (n + to - 1) / to * to }

// recordSlots returns the slot sizes of the record classes.
func recordSlots(slabBytes int) (sizes []int) {
	t := slabBytes / 8
	for n := 32; n <= min(256, t); n += 8 {
		sizes = append(sizes, n)
	}
	for d := 256; d < t; d *= 2 {
		for i := 1; i <= 8 && d+i*d/8 <= t; i++ {
			sizes = append(sizes, d+i*d/8)
		}
	}
	for k := 7; k >= 4; k-- {
		sizes = append(sizes, slabBytes/k/8*8)
	}
	return sizes
}

// The kinds of slabs.
const (
	Records = 1
	Pages   = 2
	Blocks  = 3
	Runs    = 4
)

// SlotBytes returns the slot size of a kind and class, 0 where there is none.
func (g *Geometry) SlotBytes(kind, class int) int {
	switch {
	case kind == Records && class < len(g.slotsOfRecords):
		return g.slotsOfRecords[class]
	case (kind == Pages || kind == Runs) && class == 0:
		return 4096
	case kind == Blocks && class == 0:
		return 1024
	}
	return 0
}

// RecordClass returns the smallest class that holds n bytes.
func (g *Geometry) RecordClass(n int) int {
	for c, size := range g.slotsOfRecords {
		if size >= n {
			return c
		}
	}
	return -1
}

func (g *Geometry) slabOff(i int) int  { return g.First + i*g.SlabBytes }
func (g *Geometry) groupOff(i int) int { return g.slabOff(i / g.GroupSlabs * g.GroupSlabs) }

func (g *Geometry) descOff(i int) int {
	return g.groupOff(i) + g.groupHeader + i%g.GroupSlabs*g.descBytes
}

func (g *Geometry) mapOff(i, place int) int {
	return g.groupOff(i) + g.groupHeader + g.descBytes*g.GroupSlabs + (2*(i%g.GroupSlabs)+place)*g.MapBytes
}

// Slab is what the medium says of one.
type Slab struct {
	Index, Off  int
	Kind, Class int
	SlotBytes   int
	Carve       uint32
	Mark        uint64
	maps        []slabMap
	live        []byte // words of the map that counts
}

// slabMap is what a map place holds.
type slabMap struct {
	generation uint64
	carve      uint32
	words      []byte
}

// Slots returns how many slots the slab has.
func (s *Slab) Slots(g *Geometry) int { return g.SlabBytes / s.SlotBytes }

// Live says whether the map that counts has slot k.
func (s *Slab) Live(k int) bool { return k/8 < len(s.live) && s.live[k/8]>>(k%8)&1 != 0 }

// Space is what package alloc keeps on a medium.
type Space struct {
	Geometry
	ID         []byte
	Generation uint64
	Payload    int // offset of the newest superblock's payload
	Slabs      []Slab
}

// Space prints head, superblocks and groups.
func (d *Dump) Space() *Space {
	d.t.Helper()
	d.Section("Head")
	size := d.Struct("Head", 0)["size"]
	if size&0xffff != check16(size>>16+1) {
		d.t.Errorf("size word %#x: check bits do not match", size)
	}
	s := d.superblocks()
	for i := 0; i < int(size>>16); i += s.GroupSlabs {
		d.group(s, i, int(size>>16))
	}
	return s
}

// SuperblockSum returns the checksum of a superblock slot.
func SuperblockSum(b []byte) uint32 {
	return More(Sum(b[12:]), b[:8])
}

// SetStoreID gives a store without groups another id, so that what is written
// to it does not depend on chance.
func SetStoreID(medium []byte, id [16]byte) {
	for slot := 1; slot <= 4; slot++ {
		b := medium[4096*slot : 4096*(slot+1)]
		copy(b[24:], id[:])
		binary.LittleEndian.PutUint32(b[8:], SuperblockSum(b))
	}
}

func (d *Dump) superblocks() *Space {
	d.t.Helper()
	s := &Space{}
	for slot := 1; slot <= 4; slot++ {
		off := 4096 * slot
		d.Section("Superblock, slot %d", slot-1)
		v := d.Struct("Superblock", off)
		if b := d.medium[off : off+4096]; uint64(SuperblockSum(b)) != v["checksum"] {
			d.t.Errorf("superblock slot %d: checksum %#x, should be %#x", slot-1, v["checksum"], SuperblockSum(b))
		}
		if v["generation"]%2 != uint64(slot-1)/2 {
			d.t.Errorf("superblock slot %d holds generation %d", slot-1, v["generation"])
		}
		if s.ID == nil || v["generation"] > s.Generation {
			s.Generation = v["generation"]
			s.Geometry = d.Geometry(int(v["slab bytes"]), int(v["group slabs"]))
			id := off + d.doc.Off(d.t, "Superblock", "store id")
			s.ID = d.medium[id : id+16]
			s.Payload = off + d.doc.Off(d.t, "Superblock", "payload")
		}
	}
	return s
}

func (d *Dump) group(s *Space, first, slabs int) {
	d.t.Helper()
	off := s.slabOff(first)
	d.Section("Group %d: slabs %d to %d", first/s.GroupSlabs, first, min(first+s.GroupSlabs, slabs)-1)
	v := d.Struct("Group header", off)
	if sum := Sum(d.medium[off : off+32]); uint64(sum) != v["checksum"] || v["index"] != uint64(first/s.GroupSlabs) {
		d.t.Errorf("group at %#x: checksum %#x, should be %#x; index %d", off, v["checksum"], sum, v["index"])
	}
	for i := first; i < min(first+s.GroupSlabs, slabs); i++ {
		if len(trimZeros(d.medium[s.descOff(i):s.descOff(i)+s.descBytes])) > 0 {
			s.Slabs = append(s.Slabs, d.slab(s, i))
		}
	}
}

func (d *Dump) slab(s *Space, i int) Slab {
	d.t.Helper()
	d.Section("Descriptor and map of slab %d at %#x", i, s.slabOff(i))
	v := d.Struct("Descriptor", s.descOff(i))
	id, mark := v["identity"], v["mark"]
	const low = 1<<48 - 1
	if id>>48 != check16(id&low) || mark>>48 != check16(^(mark&low)) || v["identity copy"] != id {
		d.t.Errorf("descriptor of slab %d: identity %#x, mark %#x, copy %#x do not check", i, id, mark, v["identity copy"])
	}
	b := Slab{Index: i, Off: s.slabOff(i), Carve: uint32(id), Kind: int(id >> 32 & 0xff), Class: int(id >> 40 & 0xff), Mark: mark & low}
	if b.SlotBytes = s.SlotBytes(b.Kind, b.Class); b.SlotBytes == 0 || i%s.GroupSlabs < s.MetaSlabs {
		d.t.Fatalf("slab %d: kind %d, class %d", i, b.Kind, b.Class)
	}
	for place := range 2 {
		off := s.mapOff(i, place)
		if number(d.medium[off:off+8]) != 0 {
			b.maps = append(b.maps, d.mapPlace(s, &b, off))
		}
	}
	return b
}

// LoadMaps chooses the maps that count for the checkpoint of a generation.
func (s *Space) LoadMaps(generation uint64) {
	for i := range s.Slabs {
		b := &s.Slabs[i]
		newest := slabMap{}
		for _, m := range b.maps {
			if m.generation <= generation && m.generation >= newest.generation {
				newest = m
			}
		}
		if words := (b.Slots(&s.Geometry) + 63) / 64; newest.carve == b.Carve && len(newest.words) == 8*words {
			b.live = newest.words
		}
	}
}

// mapPlace prints a map.
func (d *Dump) mapPlace(s *Space, b *Slab, off int) slabMap {
	d.t.Helper()
	v := d.Struct("Map place", off)
	head := d.doc.Size(d.t, "Map place")
	words := d.Bytes(off+head, 8*int(v["words"]), "words")
	d.Ignore(off, s.MapBytes)
	sum := More(Sum(s.ID), binary.LittleEndian.AppendUint64(nil, uint64(b.Index)))
	sum = More(sum, d.medium[off:off+12])
	sum = More(sum, words)
	if uint64(sum) != v["checksum"] {
		d.t.Errorf("map of slab %d at %#x: checksum %#x, should be %#x", b.Index, off, v["checksum"], sum)
	}
	return slabMap{v["generation"], uint32(v["carve"]), words}
}

func check16(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>48 | 1
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is CRC-32C.
func Sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// More continues a CRC-32C.
func More(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }
