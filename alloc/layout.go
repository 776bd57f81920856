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

// FormatVersion is the version of all structures that this package writes. A store with another
// version is refused with ErrVersion.
const FormatVersion = 2

// The head page holds only two words, so that each changes in one atomic 8-byte store. Format:
// docs/format.md, "Head".
const (
	headMagicOff = 0 // one of the magic numbers below
	headSizeOff  = 8 // packed size word, see packSize
	headWords    = 16

	magicNone     = 0
	magicCreating = 0x0067_6e69_6b76_6b76 // formatting has begun; counts as absent
	magicStore    = 0x0a32_766b_766e_8900 // formatting has ended
	magicVersion1 = 0x0a31_766b_766e_8900 // the same, in version 1
)

// Four superblock slots of a page each follow the head page: two generations, each stored twice.
// Format: docs/format.md, "Superblock".
const (
	superSlots      = 4
	superMagic      = 0x4b4c_4253_766b_766e // "nvkvSBLK"
	superHeaderSize = 80
	// PayloadBytes is the largest payload that a superblock can carry for the user of a Region.
	PayloadBytes = nvmap.PageBytes - superHeaderSize
)

// A group is a stretch of slabs. The first of them (metaSlabs) hold the group's header, a
// descriptor per slab and two map places per slab. Format: docs/format.md, "Group".
const (
	groupMagic      = 0x5055_5247_766b_766e // "nvkvGRUP"
	groupHeaderSize = 64
	descBytes       = 64 // one line: identity, mark, identity again, then zero
	descIdentity    = 0
	descMark        = 8
	descCopy        = 16
	descUsed        = 24
	wordBits        = 44 // of a descriptor's word; the other bits are its check
	mapHeaderSize   = 16

	// IntervalMost is the highest checkpoint interval that a mark can carry.
	IntervalMost = 1<<wordBits - 1
	// generationMost is half of the largest generation that a map can hold, more than any store
	// reaches.
	generationMost = 1<<47 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// geometry computes positions from the two sizes that a store is created with. All of them are
// multiples of slabBytes, except those of metadata.
type geometry struct {
	slabBytes  int // power of two, at least a page
	groupSlabs int // slabs in a group, metadata included; a power of two
	slabShift  int // log2 of slabBytes and groupSlabs, for fast division
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

// slabOff returns the offset of slab i.
func (g *geometry) slabOff(i int) Off { return Off(g.superBytes) + Off(i)<<g.slabShift }

// slabOf returns the slab that holds o. o must lie after the superblocks.
func (g *geometry) slabOf(o Off) int { return int((o - Off(g.superBytes)) >> g.slabShift) }

// groupOff returns the offset of the metadata of a group.
func (g *geometry) groupOff(group int) Off { return g.slabOff(group * g.groupSlabs) }

// isMeta reports whether slab i holds metadata of its group.
func (g *geometry) isMeta(i int) bool { return i&(g.groupSlabs-1) < g.metaSlabs }

func (g *geometry) descOff(i int) Off {
	return g.groupOff(i>>g.groupShift) + groupHeaderSize + Off(i&(g.groupSlabs-1))*descBytes
}

func (g *geometry) mapOff(i, place int) Off {
	base := g.groupOff(i/g.groupSlabs) + groupHeaderSize + Off(g.groupSlabs)*descBytes
	return base + Off(2*(i%g.groupSlabs)+place)*Off(g.mapBytes)
}

// slabsIn returns the number of slabs that a device of size bytes holds. A group whose metadata
// does not fit entirely does not exist.
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

// LeastBytes returns the size of the smallest store with slabs of slabBytes bytes (0: the default).
func LeastBytes(slabBytes int) (int64, error) {
	geo, err := makeGeometry(orDefault(slabBytes, DefaultSlabBytes), DefaultGroupSlabs)
	if err != nil {
		return 0, err
	}
	return geo.leastBytes(), nil
}

// leastBytes returns the size of a new store.
func (g *geometry) leastBytes() int64 { return g.sizeOf(g.metaSlabs + formatSlabs) }

// sizeOf returns the size of a device with the given number of slabs. It is the inverse of slabsIn.
func (g *geometry) sizeOf(slabs int) int64 {
	return int64(g.superBytes) + int64(slabs)*int64(g.slabBytes)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// check16 returns the check of a word on the medium that changes in one store, so that decay is
// detected. It never returns 0, so a zero word is never valid.
func check16(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>48 | 1
}

// packSize packs the number of slabs that the device had when it last grew or was cut. A shorter
// file has been truncated by others.
func packSize(slabs int) uint64 { return uint64(slabs)<<16 | check16(uint64(slabs)+1) }

func unpackSize(w uint64) (slabs int, ok bool) {
	n := w >> 16
	return int(n), w&0xffff == check16(n+1)
}

// descKey keys the checks of a descriptor with its store and its slab. The words of another
// descriptor do not pass.
type descKey uint64

func descKeyOf(id StoreID, slab int) descKey {
	return descKey(id.Seed() ^ (uint64(slab)+1)*0x9e3779b97f4a7c15)
}

// seal adds the check to a value of 44 bits. The check is never 0, so a zero word is never valid.
// That distinguishes a word that was written from one that was not.
func (k descKey) seal(v uint64) uint64 { return v | k.check(v)<<wordBits }

func (k descKey) check(v uint64) uint64 {
	v ^= uint64(k)
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	return v>>wordBits | 1
}

const wordMask = 1<<wordBits - 1

// packIdentity packs the identity of a slab: carve number in 32 bits, kind in 4, class in 8. All
// zero means that the slab was never carved.
func (k descKey) packIdentity(kind Kind, c ClassID, carve uint32) uint64 {
	return k.seal(uint64(carve) | uint64(kind)<<32 | uint64(c)<<36)
}

func (k descKey) unpackIdentity(w uint64) (kind Kind, c ClassID, carve uint32, ok bool) {
	v := w & wordMask
	return Kind(v >> 32 & 0xf), ClassID(v >> 36), uint32(v), w == k.seal(v)
}

// identity returns the slab identity in a descriptor, and a bit mask of the copies that fail their
// check. If a crash left two different identities, the later one counts, because its carve number
// is used up.
func (k descKey) identity(d []byte) (kind Kind, c ClassID, carve uint32, bad int) {
	for n, at := range [2]int{descIdentity, descCopy} {
		k2, c2, carve2, ok := k.unpackIdentity(binary.LittleEndian.Uint64(d[at:]))
		switch {
		case !ok:
			bad |= 1 << n
		case carve2 > carve:
			kind, c, carve = k2, c2, carve2
		}
	}
	return kind, c, carve, bad
}

// packMark packs a checkpoint interval. Its check is that of the complement, so that no identity
// passes as a mark.
func (k descKey) packMark(interval uint64) uint64 {
	v := interval & wordMask
	return v | k.check(^v)<<wordBits
}

func (k descKey) unpackMark(w uint64) (interval uint64, ok bool) {
	v := w & wordMask
	return v, w == k.packMark(v)
}

func groupHeader(g *geometry, id StoreID, index int) []byte {
	b := make([]byte, groupHeaderSize)
	le := binary.LittleEndian
	le.PutUint64(b[0:], groupMagic)
	copy(b[8:24], id[:])
	le.PutUint64(b[24:], uint64(index))
	le.PutUint32(b[32:], uint32(g.slabBytes))
	le.PutUint32(b[36:], uint32(g.groupSlabs))
	le.PutUint32(b[40:], FormatVersion)
	le.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
	return b
}

// groupMeta returns the metadata of a new group, in whole pages. It says explicitly that no slab
// was ever carved and no map written, so that zeros are damage.
func groupMeta(g *geometry, id StoreID, index int) []byte {
	n := groupHeaderSize + g.groupSlabs*(descBytes+2*g.mapBytes)
	b := make([]byte, roundUp(n, nvmap.PageBytes))
	copy(b, groupHeader(g, id, index))
	desc, maps := b[groupHeaderSize:], b[groupHeaderSize+g.groupSlabs*descBytes:]
	for j := range g.groupSlabs {
		i := index*g.groupSlabs + j
		descKeyOf(id, i).put(desc[j*descBytes:], KindFree, 0, 0, 0)
		for place := range 2 {
			putMap(maps[(2*j+place)*g.mapBytes:], id, &MapImage{slab: i}, 0)
		}
	}
	return b
}

// put writes the words of a descriptor to b.
func (k descKey) put(b []byte, kind Kind, c ClassID, carve uint32, mark uint64) {
	le := binary.LittleEndian
	id := k.packIdentity(kind, c, carve)
	le.PutUint64(b[descIdentity:], id)
	le.PutUint64(b[descMark:], k.packMark(mark))
	le.PutUint64(b[descCopy:], id)
}
