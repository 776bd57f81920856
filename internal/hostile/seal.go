package hostile

import (
	"hash/crc32"
	"slices"
)

// Bytes makes every checksum right and returns the store. Lists are sealed before the records that
// refer to them, and maps before the superblocks that have their digest.
func (im *Image) Bytes() []byte {
	lists := im.all(runList)
	slices.Reverse(lists) // the lowest first
	for i := range im.slabs {
		im.sealDescriptor(i)
	}
	for _, p := range im.all(record) {
		if _, _, list, ok := im.shape(p.off); ok && list != 0 {
			im.sealData(p.off, list)
		}
	}
	for _, p := range lists {
		n := 10 + 10*int(le.Uint32(im.b[p.off+6:]))
		if n <= len(im.b)-p.off {
			le.PutUint32(im.b[p.sumAt:], crc32.Checksum(im.b[p.off:p.off+n], castagnoli))
		}
	}
	for _, p := range im.all(record) {
		header, size, _, ok := im.shape(p.off)
		if !ok { // every reader refuses such lengths
			header, size = recHeader, p.size
		}
		le.PutUint32(im.b[p.off:], im.recordSum(p.off, header, size))
	}
	for _, k := range []partKind{inner, leaf, overflow} {
		for _, p := range im.all(k) {
			le.PutUint32(im.b[p.off:], im.placeSum(p.off, pageBytes))
		}
	}
	for _, p := range im.all(valueBlock) {
		le.PutUint32(im.b[p.off:], im.placeSum(p.off, 1024))
	}
	for _, p := range im.all(slabMap) {
		le.PutUint32(im.b[p.off+12:], im.mapSum(p.off, p.slab))
	}
	im.sealHead()
	return im.b
}

// recordSum returns the checksum of the record at o.
func (im *Image) recordSum(o, header, size int) uint32 {
	sum := crc32.Checksum(im.b[o+header:o+size], castagnoli)
	return crc32.Update(sum, castagnoli, im.b[o+recNumber:o+header]) ^ im.placeTag(o, im.slabOf(o).carve)
}

// sealData sets the checksums in the lists of the record at o to those of the extents of the lowest
// list, if these lie in the store.
func (im *Image) sealData(o, list int) {
	left := int(le.Uint32(im.b[o+recValue:]))
	if im.b[o+recFlags]&8 != 0 {
		left += im.u16(o + recKey)
	}
	for im.b[list+4] > 0 {
		i, ok := im.at[im.u48(list+10)]
		if !ok || im.parts[i].kind != runList || im.parts[i].off == list || im.b[im.parts[i].off+4] >= im.b[list+4] {
			return
		}
		list = im.parts[i].off
	}
	sum := uint32(0)
	for i := 0; i < int(le.Uint32(im.b[list+6:])) && left > 0; i++ {
		e := list + 10 + 10*i
		if e+10 > len(im.b) {
			return
		}
		from, n := im.u48(e), min(left, int(le.Uint32(im.b[e+6:]))*pageBytes)
		if from+n > len(im.b) {
			return
		}
		sum = crc32.Update(sum, castagnoli, im.b[from:from+n])
		left -= n
	}
	le.PutUint32(im.b[list:], sum)
}

func (im *Image) sealDescriptor(i int) {
	g := im.groupSlabs
	if i%g < im.metaSlabs {
		return
	}
	d := im.first + i/g*g*im.slabBytes + groupHeaderLen + i%g*64
	k := im.seed ^ (uint64(i)+1)*0x9e3779b97f4a7c15
	check := func(v uint64) uint64 {
		v ^= k
		v ^= v >> 33
		v *= 0xff51afd7ed558ccd
		v ^= v >> 29
		v *= 0xc4ceb9fe1a85ec53
		return v>>44 | 1
	}
	v := im.u64(d) & (1<<44 - 1)
	le.PutUint64(im.b[d:], v|check(v)<<44)
	le.PutUint64(im.b[d+16:], v|check(v)<<44)
	m := im.u64(d+8) & (1<<44 - 1)
	le.PutUint64(im.b[d+8:], m|check(^m)<<44)
	s := &im.slabs[i]
	s.carve, s.kind, s.class = int(uint32(v)), int(v>>32&15), int(v>>36&255)
	s.slot = im.slotBytes(s.kind, s.class)
}

func (im *Image) mapSum(o, slab int) uint32 {
	var seed [24]byte
	copy(seed[:], im.b[im.newest+superID:][:16])
	le.PutUint64(seed[16:], uint64(slab))
	sum := crc32.Checksum(seed[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, im.b[o:o+12])
	return crc32.Update(sum, castagnoli, im.b[o+16:o+im.mapLen(o)])
}

// digest returns the digest of the maps that count.
func (im *Image) digest(checkpoint uint64) (sum uint64) {
	maps := im.all(slabMap)
	for i := 0; i+1 < len(maps); i += 2 {
		best, found := uint64(0), -1
		for _, p := range maps[i : i+2] {
			if g := im.get(p.fields[0]); g <= checkpoint && (found < 0 || g > best) {
				best, found = g, p.off
			}
		}
		if found < 0 {
			continue
		}
		words := im.b[found+16 : found+im.mapLen(found)]
		if slices.ContainsFunc(words, func(c byte) bool { return c != 0 }) {
			x := mix((uint64(maps[i].slab)+1)*0x9e3779b97f4a7c15 ^ best*0xc2b2ae3d27d4eb4f ^ uint64(le.Uint32(im.b[found+12:]))<<32)
			sum += x ^ x>>33
		}
	}
	return sum
}

// sealHead seals the size word, the group headers and the superblocks.
func (im *Image) sealHead() {
	n := im.u64(8) >> 16
	v := n + 1
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 29
	v *= 0xc4ceb9fe1a85ec53
	le.PutUint64(im.b[8:], n<<16|v>>48|1)
	for _, p := range im.all(groupHeader) {
		le.PutUint32(im.b[p.off+44:], crc32.Checksum(im.b[p.off:p.off+44], castagnoli))
	}
	for _, p := range im.all(superblock) {
		if !im.noDigest {
			le.PutUint64(im.b[p.off+payloadDigest:], im.digest(im.u64(p.off+payloadMaps)))
		}
		le.PutUint32(im.b[p.off+superSum32:], superSum(im.b[p.off:]))
	}
}
