package alloc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"nvkv/nvmap"
)

// Off is a byte offset on the device; 0 is nil.
type Off = nvmap.Off

// FormatVersion is the version of everything this package writes. A store
// with another one is refused with ErrVersion.
const FormatVersion = 1

// The head page holds two words and nothing else, so that each changes in one
// atomic 8-byte store. Format: docs/format.md, "Head".
const (
	headMagicOff = 0 // one of the magics below
	headSizeOff  = 8 // packed size word, see packSize
	headWords    = 16

	magicNone     = 0
	magicCreating = 0x0067_6e69_6b76_6b76 // formatting has begun; counts as absent
	magicStore    = 0x0a31_766b_766e_8900 // formatting has ended
)

// Four superblock slots follow the head page, a page each: two generations,
// each stored twice. Format: docs/format.md, "Superblock".
const (
	superSlots      = 4
	superMagic      = 0x4b4c_4253_766b_766e // "nvkvSBLK"
	superHeaderSize = 80
	// PayloadBytes is what a superblock can carry for the user of a Region.
	PayloadBytes = nvmap.PageBytes - superHeaderSize
)

// A group is a stretch of slabs, the first of which (metaSlabs) hold the
// group's header, a descriptor per slab and two map places per slab.
// Format: docs/format.md, "Group".
const (
	groupMagic      = 0x5055_5247_766b_766e // "nvkvGRUP"
	groupHeaderSize = 64
	descBytes       = 64 // one line: identity, mark, identity again, then zero
	descIdentity    = 0
	descMark        = 8
	descCopy        = 16
	descUsed        = 24
	mapHeaderSize   = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// geometry is where things are, given the two sizes that a store is created
// with. All its results are multiples of slabBytes except the metadata ones.
type geometry struct {
	slabBytes  int // power of two, at least a page
	groupSlabs int // slabs in a group, metadata included; a power of two
	slabShift  int // log2 of the two: readers divide by them
	groupShift int
	metaSlabs  int // slabs of a group that hold its metadata
	superBytes int // bytes before the first group
	mapBytes   int // one map place
}

func makeGeometry(slabBytes, groupSlabs int) (geometry, error) {
	if slabBytes < nvmap.PageBytes || slabBytes > 1<<20 || slabBytes&(slabBytes-1) != 0 {
		return geometry{}, fmt.Errorf("alloc: slab size %d: not a power of two from %d to 1 MiB", slabBytes, nvmap.PageBytes)
	}
	if groupSlabs < 8 || groupSlabs > 1<<16 || groupSlabs&(groupSlabs-1) != 0 {
		return geometry{}, fmt.Errorf("alloc: %d slabs in a group: not a power of two from 8 to 65536", groupSlabs)
	}
	g := geometry{slabBytes: slabBytes, groupSlabs: groupSlabs,
		slabShift: bits.TrailingZeros(uint(slabBytes)), groupShift: bits.TrailingZeros(uint(groupSlabs))}
	g.mapBytes = roundUp(mapHeaderSize+slabBytes/minSlotBytes/8, 16)
	meta := groupHeaderSize + groupSlabs*(descBytes+2*g.mapBytes)
	g.metaSlabs = (meta + slabBytes - 1) / slabBytes
	g.superBytes = roundUp((1+superSlots)*nvmap.PageBytes, slabBytes)
	if g.metaSlabs > groupSlabs/2 {
		return geometry{}, fmt.Errorf("alloc: metadata of %d slabs fills half a group of %d", g.metaSlabs, groupSlabs)
	}
	return g, nil
}

// slabOff returns where slab i begins.
func (g *geometry) slabOff(i int) Off { return Off(g.superBytes) + Off(i)<<g.slabShift }

// slabOf returns the slab that holds o; o must lie behind the superblocks.
func (g *geometry) slabOf(o Off) int { return int((o - Off(g.superBytes)) >> g.slabShift) }

// groupOff returns where the metadata of the group of slab i begins.
func (g *geometry) groupOff(group int) Off { return g.slabOff(group * g.groupSlabs) }

// isMeta says whether slab i holds its group's metadata.
func (g *geometry) isMeta(i int) bool { return i&(g.groupSlabs-1) < g.metaSlabs }

func (g *geometry) descOff(i int) Off {
	return g.groupOff(i>>g.groupShift) + groupHeaderSize + Off(i&(g.groupSlabs-1))*descBytes
}

func (g *geometry) mapOff(i, place int) Off {
	base := g.groupOff(i/g.groupSlabs) + groupHeaderSize + Off(g.groupSlabs)*descBytes
	return base + Off(2*(i%g.groupSlabs)+place)*Off(g.mapBytes)
}

// slabsIn returns how many slabs a device of size bytes holds. A group whose
// metadata does not fit entirely does not exist.
func (g *geometry) slabsIn(size int64) int {
	n := int((size - int64(g.superBytes)) / int64(g.slabBytes))
	if n <= 0 {
		return 0
	}
	if rest := n % g.groupSlabs; rest <= g.metaSlabs {
		n -= rest
	}
	return n
}

// sizeOf is the inverse of slabsIn.
func (g *geometry) sizeOf(slabs int) int64 {
	return int64(g.superBytes) + int64(slabs)*int64(g.slabBytes)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// Words on the medium that must change in one store carry their own check, so
// that rot shows. check16 never returns 0, so a zero word is never valid.
func check16(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>48 | 1
}

// packSize packs a number of slabs, the size that the device had when it last
// grew. A shorter file has been cut.
func packSize(slabs int) uint64 { return uint64(slabs)<<16 | check16(uint64(slabs)+1) }

func unpackSize(w uint64) (slabs int, ok bool) {
	n := w >> 16
	return int(n), w&0xffff == check16(n+1)
}

// packIdentity packs what a slab was last carved into: kind and class in 16
// bits, the carve number in 32.
func packIdentity(k Kind, c ClassID, carve uint32) uint64 {
	v := uint64(carve) | uint64(k)<<32 | uint64(c)<<40
	return v | check16(v)<<48
}

func unpackIdentity(w uint64) (k Kind, c ClassID, carve uint32, ok bool) {
	v := w & (1<<48 - 1)
	return Kind(v >> 32), ClassID(v >> 40), uint32(v), w>>48 == check16(v)
}

// packMark packs a checkpoint interval.
func packMark(interval uint64) uint64 {
	v := interval & (1<<48 - 1)
	return v | check16(^v)<<48
}

func unpackMark(w uint64) (interval uint64, ok bool) {
	v := w & (1<<48 - 1)
	return v, w>>48 == check16(^v)
}

// CorruptError names a structure on the medium that is not what it must be.
type CorruptError struct {
	Off  Off
	What string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("nvkv: corrupt %s at %#x", e.What, uint64(e.Off))
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

func groupHeader(id StoreID, index int) []byte {
	b := make([]byte, groupHeaderSize)
	le := binary.LittleEndian
	le.PutUint64(b[0:], groupMagic)
	copy(b[8:24], id[:])
	le.PutUint64(b[24:], uint64(index))
	le.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	return b
}
