package alloc

import (
	"errors"

	"nvkv/nvmap"
)

// OpenDamaged is Open for a rescue: it takes what can be had. Any good copy of a
// superblock serves, the size is the device's where the size word is bad, and a
// slab whose identity is bad is left out. It reports what it passed over. The
// region is read-only: nothing may be allocated from it, and what its superblock
// says may be of an older generation than the one that counts.
func OpenDamaged(m *nvmap.Map, report func(*CorruptError)) (*Region, error) {
	sb, err := anySuper(m)
	if err != nil {
		return nil, err
	}
	geo, err := makeGeometry(sb.slabBytes, sb.groupSlabs)
	if err != nil {
		return nil, err
	}
	r := &Region{m: m, geo: geo, table: makeClassTable(geo.slabBytes), super: *sb, id: sb.id, readOnly: true}
	n, err := r.readSize()
	if err != nil {
		var bad *CorruptError
		if !errors.As(err, &bad) {
			return nil, err
		}
		report(bad)
		n = geo.slabsIn(m.Size())
	}
	r.slabs = make([]slab, n)
	r.identities = makeIdentities(geo.slabsIn(m.Device().Info().MaxBytes))
	d := make([]byte, descBytes)
	for i := range r.slabs {
		if geo.isMeta(i) {
			continue
		}
		if err := m.Device().Read(geo.descOff(i), d); err != nil {
			report(&CorruptError{geo.descOff(i), "slab identity, which cannot be read"})
			continue
		}
		err := r.readDesc(i, d)
		if err != nil || !allZero(d) && r.slabs[i].kind == KindFree {
			r.unknown = append(r.unknown, i)
		}
		if err != nil {
			var bad *CorruptError
			if !errors.As(err, &bad) {
				return nil, err
			}
			report(bad)
		}
	}
	return r, nil
}

// anySuper returns the newest superblock that has a good copy, whatever the
// others are.
func anySuper(m *nvmap.Map) (newest *superblock, err error) {
	b := make([]byte, nvmap.PageBytes)
	for slot := range uint64(superSlots) {
		if m.Device().Read(slotOff(slot/2, int(slot%2)), b) != nil {
			continue
		}
		s, version := decodeSuper(b)
		switch {
		case s == nil:
		case version != FormatVersion:
			return nil, ErrVersion
		case newest == nil || s.generation > newest.generation:
			newest = s
		}
	}
	if newest == nil {
		return nil, &CorruptError{slotOff(0, 0), "superblock, all copies: without the store's id no record can be told"}
	}
	return newest, nil
}

// Unknown calls try for each slab whose identity OpenDamaged could not read, once
// for each class of records that it may have been carved into, until try returns
// the carve number that it was carved with.
func (r *Region) Unknown(try func(slab SlabInfo) (carve uint32, ok bool)) {
	for _, i := range r.unknown {
		for c := range r.table.size {
			info := SlabInfo{Index: i, Off: r.geo.slabOff(i), Kind: KindRecord, Class: ClassID(c), SlotBytes: r.table.size[c]}
			info.Slots = r.geo.slabBytes / info.SlotBytes
			carve, ok := try(info)
			if !ok {
				continue
			}
			s := &r.slabs[i]
			s.kind, s.class, s.carve, s.slots = KindRecord, ClassID(c), carve, int32(info.Slots)
			s.used, s.live = makeBits(s.slots)
			r.identities.set(i, KindRecord, ClassID(c), carve)
			break
		}
	}
}
