package alloc

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"slices"
)

// MapImage is the map of one slab as a freeze saw it, ready to be written.
type MapImage struct {
	slab  int
	place uint8
	carve uint32
	live  []uint64
}

// markDirty has the next freeze copy the map of slab i. Before Ready, when
// goroutines claim slots of different slabs side by side, it only says so.
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

// FreezeMaps copies the live maps that changed since the last freeze. It is
// part of a checkpoint's one instant (R8): the caller holds the writer's turn,
// so it looks at those slabs alone, and asks for memory twice.
// WriteMaps may then run beside writers.
func (r *Region) FreezeMaps() []MapImage {
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
		if r.off&RuleR10 == 0 {
			bits = append(bits, s.live...)
		} else {
			bits = append(bits, s.used...)
		}
		out = append(out, MapImage{int(i), s.place, s.carve, bits[from:len(bits):len(bits)]})
	}
	r.dirty = r.dirty[:0]
	return out
}

// ThawMaps takes frozen maps back whose checkpoint will not flip: the next
// freeze copies those slabs again.
func (r *Region) ThawMaps(images []MapImage) {
	for _, im := range images {
		r.markDirty(int32(im.slab))
		if s := &r.slabs[im.slab]; s.place == im.place {
			s.place ^= 1 // the older place again, whatever was written there
		}
	}
}

// yieldEvery is how many maps are written before others may have the CPU, if any
// wait for one: tens of microseconds.
const yieldEvery = 128

// WriteMaps stores frozen maps, each in the older of its slab's two places,
// tagged with the generation of the superblock that will make them count
// (R10). It does not fence. It is safe beside everything but another WriteMaps.
func (r *Region) WriteMaps(images []MapImage, generation uint64) error {
	slices.SortFunc(images, func(a, b MapImage) int { return cmp.Compare(a.slab, b.slab) })
	b := make([]byte, r.geo.mapBytes)
	for i, im := range images {
		if i%yieldEvery == yieldEvery-1 {
			runtime.Gosched()
		}
		clear(b)
		n := r.encodeMap(b, im, generation)
		if err := r.m.WriteBeside(r.geo.mapOff(im.slab, int(im.place)), b[:n]); err != nil {
			return err
		}
	}
	return nil
}

// encodeMap writes generation 6 bytes, words 2, carve 4, checksum 4, bits.
func (r *Region) encodeMap(b []byte, im MapImage, generation uint64) int {
	le := binary.LittleEndian
	le.PutUint64(b[0:], generation&(1<<48-1)|uint64(len(im.live))<<48)
	le.PutUint32(b[8:], im.carve)
	n := mapHeaderSize
	for _, w := range im.live {
		le.PutUint64(b[n:], w)
		n += 8
	}
	le.PutUint32(b[12:], r.mapSum(b[:n], im.slab))
	return n
}

// mapSum covers everything but itself, and the store and slab it belongs to.
func (r *Region) mapSum(b []byte, slab int) uint32 {
	var seed [24]byte
	copy(seed[:], r.id[:])
	binary.LittleEndian.PutUint64(seed[16:], uint64(slab))
	sum := crc32.Checksum(seed[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, b[:12])
	return crc32.Update(sum, castagnoli, b[mapHeaderSize:])
}

// LoadMaps takes what is used and live from the maps of the newest generation
// not above that of the last checkpoint. It returns the slabs whose map cannot
// be told: a place of theirs holds neither zeros nor a good map, so the other
// one may be stale. The caller decides those by what the index reaches.
func (r *Region) LoadMaps(checkpoint uint64) (ambiguous []int, err error) {
	both := 2 * r.geo.mapBytes
	buf := make([]byte, r.geo.groupSlabs*both)
	for first := 0; first < len(r.slabs); first += r.geo.groupSlabs {
		maps, err := r.view(r.geo.mapOff(first, 0), buf) // a group's at once: disks are slow to ask
		if err != nil {
			return nil, err
		}
		for i := first + r.geo.metaSlabs; i < min(len(r.slabs), first+r.geo.groupSlabs); i++ {
			if !r.loadMap(i, maps[(i-first)*both:][:both], checkpoint) {
				ambiguous = append(ambiguous, i)
			}
		}
	}
	return ambiguous, nil
}

// loadMap reads both places of a slab's map. A6: a map of a checkpoint that did
// not flip is left alone now, and made obsolete by the next checkpoint, which
// writes the map of that slab whether it changed or not: once superblocks of
// later generations exist, nothing else would tell it from a map that counts.
// For the same reason the newest map that may count decides, and where it is of
// another carving, the slab was carved since and nothing in it is live. That
// carving may yet be lost, when a killed process left it: so this map too is
// made obsolete.
func (r *Region) loadMap(i int, buf []byte, checkpoint uint64) bool {
	s := &r.slabs[i]
	le := binary.LittleEndian
	best, found, clean := uint64(0), -1, true
	for place := range 2 {
		b := buf[place*r.geo.mapBytes : (place+1)*r.geo.mapBytes]
		head := le.Uint64(b)
		if head == 0 {
			continue // never written: words is never 0 in a map
		}
		n := mapHeaderSize + 8*int(head>>48)
		if n > len(b) || le.Uint32(b[12:]) != r.mapSum(b[:n], i) {
			clean = false
			continue
		}
		generation := head & (1<<48 - 1)
		if generation > checkpoint && r.off&RuleA6 == 0 {
			s.dirty = true
			continue
		}
		if found < 0 || generation > best {
			best, found = generation, place
		}
	}
	if !clean {
		s.freed = r.interval
		return false
	}
	if found < 0 {
		return true
	}
	s.place = uint8(found)
	b := buf[found*r.geo.mapBytes:]
	if le.Uint32(b[8:]) != s.carve || int(le.Uint16(b[6:])) != len(s.live) {
		s.dirty = true
		s.freed = r.interval // the checkpoint may name slots of the former carving
		return true
	}
	s.setMap(b[mapHeaderSize:])
	if s.liveN > 0 {
		s.freed = r.interval // A10, should replay empty it
	}
	return true
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
