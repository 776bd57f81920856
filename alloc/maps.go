package alloc

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"slices"
)

// MapImage is the frozen map of one slab, ready to be written.
type MapImage struct {
	slab  int
	place uint8
	kind  Kind
	class ClassID
	carve uint32
	live  []uint64
	was   uint64 // contribution to the digest of the map that counts now
	adds  uint64 // contribution to the digest of this map, set when it is written
}

// markDirty makes the next freeze copy the map of slab i. Before Ready, when several goroutines
// claim slots of different slabs, it only sets the flag of the slab.
func (r *Region) markDirty(i int32) {
	s := &r.slabs[i]
	if s.dirty {
		return
	}
	s.dirty = true
	if r.ready {
		r.dirty = append(r.dirty, i)
	}
}

// FreezeMaps copies the live maps that changed since the last freeze. It is part of the freeze of a
// checkpoint (R8), and the caller holds the writer's turn. So it visits the changed slabs only, and
// allocates memory twice. WriteMaps may then run concurrently with writers.
func (r *Region) FreezeMaps() []MapImage {
	r.size()
	r.audits.all(r)
	words := 0
	for _, i := range r.dirty {
		words += len(r.slabs[i].live)
	}
	out, bits := make([]MapImage, 0, len(r.dirty)), make([]uint64, 0, words)
	for _, i := range r.dirty {
		s := &r.slabs[i]
		s.dirty = false
		s.place ^= 1
		from := len(bits)
		im := MapImage{slab: int(i), place: s.place, carve: s.carve, was: s.adds}
		if s.kind != KindFree {
			im.kind, im.class = s.kind, s.class
			if !r.off.has(ruleR10) {
				bits = append(bits, s.live...)
			} else {
				bits = append(bits, s.used...)
			}
		}
		im.live = bits[from:len(bits):len(bits)]
		out = append(out, im)
	}
	r.dirty = r.dirty[:0]
	return out
}

// ThawMaps takes back frozen maps whose checkpoint will not flip. The next freeze copies those
// slabs again.
func (r *Region) ThawMaps(images []MapImage) {
	for _, im := range images {
		r.markDirty(int32(im.slab))
		if s := &r.slabs[im.slab]; s.place == im.place {
			s.place ^= 1 // write to this place again: it holds no map that counts
		}
	}
}

// yieldEvery is the number of maps, some tens of microseconds of work, after which WriteMaps yields
// the CPU to waiting goroutines.
const yieldEvery = 128

// WriteMaps writes frozen maps, each to the older of its slab's two places, tagged with the
// generation of the superblock that will make them count (R10). It does not fence. It may run
// concurrently with everything except another WriteMaps.
func (r *Region) WriteMaps(images []MapImage, generation uint64) error {
	slices.SortFunc(images, func(a, b MapImage) int { return cmp.Compare(a.slab, b.slab) })
	b := make([]byte, r.geo.mapBytes)
	for i := range images {
		if i%yieldEvery == yieldEvery-1 {
			runtime.Gosched()
		}
		im := &images[i]
		n := putMap(b, r.id, im, generation)
		if err := r.m.WriteBeside(r.geo.mapOff(im.slab, int(im.place)), b[:n]); err != nil {
			return err
		}
	}
	return nil
}

// MapDigest returns the digest of all maps as it is once images, which WriteMaps has written,
// count. The digest is the sum of the contributions of all maps that have a slot. The next LoadMaps
// compares it to detect a lost write. It may run concurrently with everything except WriteMaps and
// CountMaps.
func (r *Region) MapDigest(images []MapImage) uint64 {
	sum := r.digest
	for i := range images {
		sum += images[i].adds - images[i].was
	}
	return sum
}

// CountMaps notes that the superblock that makes images count has been written.
func (r *Region) CountMaps(images []MapImage) {
	r.digest = r.MapDigest(images)
	for i := range images {
		r.slabs[images[i].slab].adds = images[i].adds
	}
}

// putMap encodes a map: generation 6 bytes, kind 1, class 1, carve 4, checksum 4, bits. It sets
// im.adds and returns the length.
func putMap(b []byte, id StoreID, im *MapImage, generation uint64) int {
	le := binary.LittleEndian
	le.PutUint64(b[0:], generation&(1<<48-1)|uint64(im.kind)<<48|uint64(im.class)<<56)
	le.PutUint32(b[8:], im.carve)
	n, any := mapHeaderSize, uint64(0)
	for _, w := range im.live {
		le.PutUint64(b[n:], w)
		any |= w
		n += 8
	}
	sum := mapSum(b[:n], id, im.slab)
	le.PutUint32(b[12:], sum)
	im.adds = 0
	if any != 0 {
		im.adds = mapAdds(im.slab, generation, sum)
	}
	return n
}

// mapAdds returns the contribution of a map to the digest. A map without a slot contributes
// nothing, so new slabs, and free slabs that are cut off the end, do not change the digest.
func mapAdds(slab int, generation uint64, sum uint32) uint64 {
	x := (uint64(slab)+1)*0x9e3779b97f4a7c15 ^ generation*0xc2b2ae3d27d4eb4f ^ uint64(sum)<<32
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// mapSum returns the checksum of a map. It covers everything but itself, and the store and slab
// that the map belongs to.
func mapSum(b []byte, id StoreID, slab int) uint32 {
	var seed [24]byte
	copy(seed[:], id[:])
	binary.LittleEndian.PutUint64(seed[16:], uint64(slab))
	sum := crc32.Checksum(seed[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, b[:12])
	return crc32.Update(sum, castagnoli, b[mapHeaderSize:])
}

// LoadMaps sets the used and live slots from the newest maps whose generation is not above that of
// the last checkpoint, and returns their digest. It also returns the slabs with a place that holds
// no good map. Such a place was either torn by a crash during its writing, and then its map does
// not count, or it has decayed, and then the other place may be stale. If the digest equals the one
// in the checkpoint, the first is the case. If not, the caller calls ForgetMaps and derives all
// maps from its index.
func (r *Region) LoadMaps(checkpoint uint64) (digest uint64, unclean []int, err error) {
	both := 2 * r.geo.mapBytes
	buf := make([]byte, r.geo.groupSlabs*both)
	r.digest = 0
	for first := 0; first < len(r.slabs); first += r.geo.groupSlabs {
		maps, err := r.view(r.geo.mapOff(first, 0), buf) // read all maps of a group at once: single reads are slow on disks
		if err != nil {
			return 0, nil, err
		}
		for i := first + r.geo.metaSlabs; i < min(len(r.slabs), first+r.geo.groupSlabs); i++ {
			if !r.loadMap(i, maps[(i-first)*both:][:both], checkpoint) {
				unclean = append(unclean, i)
			}
			r.digest += r.slabs[i].adds
		}
	}
	return r.digest, unclean, nil
}

// ForgetMaps clears the state that LoadMaps set. It makes Check report the slabs in unclean, or, if
// there are none, that the write of a map was lost. The next checkpoint writes every map.
func (r *Region) ForgetMaps(unclean []int) {
	r.digest = 0
	for i := range r.slabs {
		s := &r.slabs[i]
		clear(s.used)
		clear(s.live)
		s.usedN, s.liveN, s.adds = 0, 0, 0
		s.dirty, s.freed = !r.geo.isMeta(i), r.interval
	}
	for _, i := range unclean {
		r.found(r.geo.mapOff(i, 0), "slab map, of two places")
	}
	if len(unclean) == 0 {
		r.found(r.geo.mapOff(0, 0), "digest of the slab maps, of which a write was lost,")
	}
}

// slabMap is a decoded map.
type slabMap struct {
	generation uint64
	kind       Kind
	class      ClassID
	carve      uint32
	sum        uint32
	words      []byte
}

// readMap decodes the map of slab i from one of its places. It returns false if no good map is
// there.
func (r *Region) readMap(i int, b []byte) (m slabMap, ok bool) {
	le := binary.LittleEndian
	m = slabMap{kind: Kind(b[6]), class: ClassID(b[7]), carve: le.Uint32(b[8:]), sum: le.Uint32(b[12:])}
	m.generation = le.Uint64(b) & (1<<48 - 1)
	n := mapHeaderSize
	if m.kind != KindFree {
		size := r.table.slotBytes(m.kind, m.class)
		if size == 0 {
			return m, false
		}
		n += (r.geo.slabBytes/size + 63) / 64 * 8
	}
	m.words = b[mapHeaderSize:n]
	return m, m.sum == mapSum(b[:n], r.id, i)
}

// adds returns the contribution of the map of slab i to the digest.
func (m *slabMap) adds(i int) uint64 {
	if allZero(m.words) {
		return 0
	}
	return mapAdds(i, m.generation, m.sum)
}

// loadMap reads both places of a slab's map, and reports whether both are good. A6: a map of a
// checkpoint that did not flip is ignored now. The next checkpoint makes it obsolete by writing the
// map of that slab whether it changed or not, because nothing else would distinguish it from a map
// that counts once superblocks of later generations exist.
func (r *Region) loadMap(i int, buf []byte, checkpoint uint64) (clean bool) {
	s := &r.slabs[i]
	var best slabMap
	found, clean := -1, true
	for place := range 2 {
		m, ok := r.readMap(i, buf[place*r.geo.mapBytes:(place+1)*r.geo.mapBytes])
		switch {
		case !ok:
			clean, s.dirty = false, true
		case m.generation > checkpoint && !r.off.has(ruleA6):
			s.dirty = true
		case found < 0 || m.generation > best.generation:
			best, found = m, place
		}
	}
	if found >= 0 {
		s.place = uint8(found)
		s.adds = best.adds(i)
		r.takeMap(i, &best)
	}
	return clean
}

// takeMap applies the map that counts to slab i. If the map is of an earlier carving, the slab was
// carved since and has no live slots; a killed process may lose that carving later, so the next
// checkpoint makes this map obsolete too. If the map is of a later carving, the medium lost the
// write of the descriptor, and the map gives the identity: by A4 the descriptor was fenced before
// the map counted, unless no slot was in use.
func (r *Region) takeMap(i int, m *slabMap) {
	s := &r.slabs[i]
	same := m.kind == s.kind && m.class == s.class && m.carve == s.carve
	if !same && s.adds != 0 && m.carve >= s.carve {
		r.found(r.geo.descOff(i), "slab identity, of which a write was lost,")
		r.identify(i, m.kind, m.class, m.carve)
		same = true
	}
	switch {
	case same && m.kind != KindFree:
		s.setMap(m.words)
	case m.carve != s.carve:
		s.dirty = true
	}
	if s.adds != 0 {
		s.freed = r.interval // A10: the checkpoint names slots in it
	}
}

func (s *slab) setMap(b []byte) {
	for w := range s.live {
		v := binary.LittleEndian.Uint64(b[8*w:])
		if rest := int(s.slots) - 64*w; rest < 64 {
			v &= 1<<rest - 1
		}
		s.live[w], s.used[w] = v, v
	}
	s.recount()
}

func (s *slab) recount() {
	s.usedN, s.liveN = popcount(s.used), popcount(s.live)
}

func popcount(b []uint64) (n int32) {
	for _, w := range b {
		n += int32(onesCount(w))
	}
	return n
}
