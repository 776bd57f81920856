package alloc

import (
	"encoding/binary"
	"errors"

	"nvkv/nvmap"
)

// OpenDamaged is Open for a rescue. It uses any good copy of a superblock, or else a group header,
// which repeats the fields needed to recognise records. If the size word is bad, it uses the size
// of the device. It leaves out slabs whose identity is bad. It calls report for each damage that it
// passed over. The region is read-only: nothing may be allocated from it, and its superblock may be
// of an older generation than the newest one.
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
	r.inLines = m.Device().Info().Unit == lineBytes
	r.identities = makeIdentities(geo.slabsIn(m.Device().Info().MaxBytes))
	d := make([]byte, descBytes)
	for i := range r.slabs {
		if geo.isMeta(i) {
			continue
		}
		if err := m.Device().Read(geo.descOff(i), d); err != nil {
			report(corruptAt(geo.descOff(i), "slab identity, which cannot be read"))
			continue
		}
		err := r.readDesc(i, d)
		if err != nil {
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

// anySuper returns the newest superblock that has a good copy.
func anySuper(m *nvmap.Map) (newest *superblock, err error) {
	b := make([]byte, nvmap.PageBytes)
	for slot := range uint64(superSlots) {
		if m.Device().Read(slotOff(slot/2, int(slot%2)), b) != nil {
			continue
		}
		s, version := decodeSuper(b)
		switch {
		case version != 0 && version != FormatVersion:
			return nil, otherVersion(version)
		case s == nil || s.impossible():
		case newest == nil || s.generation > newest.generation:
			newest = s
		}
	}
	if magic, _, err := readHead(m); newest == nil && err == nil && magic == magicVersion1 {
		return nil, otherVersion(1)
	}
	if newest == nil {
		return superOfGroups(m)
	}
	return newest, nil
}

// impossible says whether no store can have the geometry that a superblock says.
func (s *superblock) impossible() bool {
	_, err := makeGeometry(s.slabBytes, s.groupSlabs)
	return err != nil
}

// superOfGroups returns the part of the superblock that group headers repeat: id and geometry,
// without a payload.
func superOfGroups(m *nvmap.Map) (*superblock, error) {
	chunk := make([]byte, blankBytes)
	for at := Off(0); at < Off(m.Size()); at += Off(len(chunk)) {
		part := chunk[:min(len(chunk), int(Off(m.Size())-at))]
		if m.Device().Read(at, part) != nil {
			continue // another header may be good
		}
		for i := 0; i+groupHeaderSize <= len(part); i += nvmap.PageBytes {
			if s := decodeGroupHeader(part[i:i+groupHeaderSize], at+Off(i)); s != nil {
				return s, nil
			}
		}
	}
	return nil, corruptAt(slotOff(0, 0), "superblock, all copies, and every group header: without the store's id no record can be told")
}

// decodeGroupHeader returns the superblock fields in the group header at an offset. It returns nil
// if no valid header for that offset is there.
func decodeGroupHeader(b []byte, at Off) *superblock {
	le := binary.LittleEndian
	s := &superblock{slabBytes: int(le.Uint32(b[32:])), groupSlabs: int(le.Uint32(b[36:]))}
	copy(s.id[:], b[8:24])
	geo, err := makeGeometry(s.slabBytes, s.groupSlabs)
	if err != nil {
		return nil
	}
	index := le.Uint64(b[24:])
	if index > uint64(at)/nvmap.PageBytes || geo.groupOff(int(index)) != at || string(b) != string(groupHeader(&geo, s.id, int(index))) {
		return nil
	}
	return s
}

// Unknown calls try for each slab whose identity OpenDamaged could not read, once for each record
// class, until try returns ok. try returns the carve number of the slab if it recognises records of
// that class in it.
func (r *Region) Unknown(try func(slab SlabInfo) (carve uint32, ok bool)) {
	for _, i := range r.unknown {
		for c := range r.table.size {
			info := SlabInfo{Index: i, Off: r.geo.slabOff(i), Kind: KindRecord, Class: ClassID(c), SlotBytes: r.table.size[c]}
			info.Slots = r.geo.slabBytes / info.SlotBytes
			carve, ok := try(info)
			if !ok {
				continue
			}
			r.identify(i, KindRecord, ClassID(c), carve)
			break
		}
	}
}
