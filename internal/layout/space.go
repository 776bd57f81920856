package layout

import (
	"encoding/binary"
	"hash/crc32"
)

// Geometry computes the places of slabs by the formulas of the document.
type Geometry struct {
	SlabBytes, GroupSlabs  int
	First                  int // offset of slab 0
	MetaSlabs, MapBytes    int
	slotsOfRecords         []int
	groupHeader, descBytes int
}

// Geometry returns the geometry of a store with these sizes.
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
		for i := 1; i <= 16 && d+i*d/16 <= t; i++ {
			sizes = append(sizes, d+i*d/16)
		}
	}
	for k := 7; k >= 4; k-- {
		sizes = append(sizes, slabBytes/k/8*8)
	}
	return sizes
}

// These are the kinds of slabs.
const (
	Records = 1
	Pages   = 2
	Blocks  = 3
	Runs    = 4
)

// SlotBytes returns the slot size of a kind and class, or 0 if there is none.
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

// Slab is the state of a slab on the medium.
type Slab struct {
	Index, Off  int
	Kind, Class int
	SlotBytes   int
	Carve       uint32
	Mark        uint64
	maps        []slabMap
	live        []byte // words of the map that counts
}

// slabMap is the map in a map place.
type slabMap struct {
	generation  uint64
	kind, class int
	carve       uint32
	sum         uint64
	words       []byte
}

// Slots returns the number of slots of the slab.
func (s *Slab) Slots(g *Geometry) int { return g.SlabBytes / s.SlotBytes }

// Live reports whether slot k is live in the map that counts.
func (s *Slab) Live(k int) bool { return k/8 < len(s.live) && s.live[k/8]>>(k%8)&1 != 0 }

// Space is the part of a medium that package alloc maintains.
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

// SetStoreID sets the id of a store without groups, so that the bytes written to it are not random.
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
	sum := Sum(d.medium[off : off+44])
	if uint64(sum) != v["checksum"] || v["index"] != uint64(first/s.GroupSlabs) || v["slab bytes"] != uint64(s.SlabBytes) ||
		v["group slabs"] != uint64(s.GroupSlabs) || v["version"] != 2 {
		d.t.Errorf("group at %#x: %v, the checksum should be %#x", off, v, sum)
	}
	for i := first; i < first+s.GroupSlabs; i++ {
		d.slab(s, i, slabs)
	}
}

// slab prints descriptor and maps of a slab. It records the state of a slab that lies below the
// size word and was carved.
func (d *Dump) slab(s *Space, i, slabs int) {
	d.t.Helper()
	d.Section("Descriptor and map of slab %d at %#x", i, s.slabOff(i))
	v := d.Struct("Descriptor", s.descOff(i))
	id, mark := v["identity"], v["mark"]
	const low = 1<<44 - 1
	key := binary.LittleEndian.Uint64(s.ID) ^ uint64(i+1)*0x9e3779b97f4a7c15
	if id>>44 != check20(id&low^key) || mark>>44 != check20(^(mark&low)^key) || v["identity copy"] != id {
		d.t.Errorf("descriptor of slab %d: identity %#x, mark %#x, copy %#x do not check", i, id, mark, v["identity copy"])
	}
	b := Slab{Index: i, Off: s.slabOff(i), Carve: uint32(id), Kind: int(id >> 32 & 0xf), Class: int(id >> 36 & 0xff), Mark: mark & low}
	for place := range 2 {
		b.maps = append(b.maps, d.mapPlace(s, &b, s.mapOff(i, place)))
	}
	if id&low == 0 {
		return // never carved
	}
	if b.SlotBytes = s.SlotBytes(b.Kind, b.Class); b.SlotBytes == 0 || i%s.GroupSlabs < s.MetaSlabs || i >= slabs {
		d.t.Fatalf("slab %d: kind %d, class %d", i, b.Kind, b.Class)
	}
	s.Slabs = append(s.Slabs, b)
}

// LoadMaps chooses the maps that count for the checkpoint of the given generation, and returns
// their digest.
func (s *Space) LoadMaps(generation uint64) (digest uint64) {
	for i := range s.Slabs {
		b := &s.Slabs[i]
		newest := slabMap{}
		for _, m := range b.maps {
			if m.generation <= generation && m.generation >= newest.generation {
				newest = m
			}
		}
		if newest.carve == b.Carve && newest.kind == b.Kind && newest.class == b.Class {
			b.live = newest.words
		}
		digest += newest.adds(b.Index)
	}
	return digest
}

// adds returns the contribution of a map to the digest.
func (m *slabMap) adds(slab int) uint64 {
	if len(trimZeros(m.words)) == 0 {
		return 0
	}
	x := uint64(slab+1)*0x9e3779b97f4a7c15 ^ m.generation*0xc2b2ae3d27d4eb4f ^ m.sum<<32
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// mapPlace prints a map.
func (d *Dump) mapPlace(s *Space, b *Slab, off int) slabMap {
	d.t.Helper()
	v := d.Struct("Map place", off)
	m := slabMap{v["generation"], int(v["kind"]), int(v["class"]), uint32(v["carve"]), v["checksum"], nil}
	if m.kind != 0 {
		slots := s.SlabBytes / s.SlotBytes(m.kind, m.class)
		m.words = d.Bytes(off+d.doc.Size(d.t, "Map place"), (slots+63)/64*8, "words")
	}
	d.Ignore(off, s.MapBytes)
	sum := More(Sum(s.ID), binary.LittleEndian.AppendUint64(nil, uint64(b.Index)))
	sum = More(sum, d.medium[off:off+12])
	sum = More(sum, m.words)
	if uint64(sum) != m.sum {
		d.t.Errorf("map of slab %d at %#x: checksum %#x, should be %#x", b.Index, off, m.sum, sum)
	}
	return m
}

func check20(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>44 | 1
}

func check16(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>48 | 1
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum returns the CRC-32C of b.
func Sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// More returns the CRC-32C of the bytes of sum followed by b.
func More(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }
