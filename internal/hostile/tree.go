package hostile

// These are offsets in index pages; see docs/format.md.
const (
	pgKind, pgLevel, pgCount, pgBirth = 4, 5, 6, 8
	pgTop, pgPrefix, pgGarbage        = 16, 18, 20
	pgNext, pgSelf, pgHeader          = 16, 24, 32
	childBytes                        = 14
	longCell                          = 0xff00
)

// readTree lists the pages, chains, value blocks and references that the root of the newest
// superblock reaches.
func (im *Image) readTree() {
	if root := int(im.u64(im.newest + payloadRoot)); root != 0 {
		im.readPage(root * pageBytes)
	}
}

func (im *Image) readPage(o int) {
	if _, seen := im.at[o]; seen {
		return
	}
	n, level := im.u16(o+pgCount), im.b[o+pgLevel]
	p := part{kind: leaf, off: o, fields: []field{
		{name: "kind", off: o + pgKind, width: 1}, {name: "level", off: o + pgLevel, width: 1}, {name: "count", off: o + pgCount, width: 2},
		{name: "birth", off: o + pgBirth, width: 8}, {name: "heap top", off: o + pgTop, width: 2, means: offset}, {name: "prefix", off: o + pgPrefix, width: 2},
		{name: "garbage", off: o + pgGarbage, width: 2}, {name: "self", off: o + pgSelf, width: 8, means: pageNumber},
	}}
	if level > 0 {
		p.kind = inner
	}
	var below [][2]int
	for i := range n {
		p.fields = append(p.fields, field{name: "head", off: o + pgHeader + 4*i, width: 4})
		s := o + pgHeader + 4*n + 4*i
		p.fields = append(p.fields, field{name: "cell", off: s, width: 2, means: offset}, field{name: "length", off: s + 2, width: 2})
		if im.u16(s+2) == longCell {
			c := o + im.u16(s)
			p.fields = append(p.fields, field{name: "key bytes", off: c, width: 2}, field{name: "overflow", off: c + 2, width: 5, means: pageNumber}, field{name: "overflow birth", off: c + 7, width: 1})
			im.readChain(im.u40(c+2) * pageBytes)
		}
		if level > 0 {
			c := im.child(o, i)
			p.fields = append(p.fields, field{name: "child", off: c, width: 5, means: pageNumber}, field{name: "child's values", off: c + 5, width: 5, means: blockNumber},
				field{name: "child's birth", off: c + 10, width: 2}, field{name: "values birth", off: c + 12, width: 2})
			below = append(below, [2]int{im.u40(c) * pageBytes, im.u40(c+5) * 1024})
		}
	}
	im.add(p)
	for _, c := range below {
		im.readPage(c[0])
		if c[1] != 0 {
			im.readBlock(c[1], im.u16(c[0]+pgCount))
		}
	}
}

// child returns the offset of the i-th child reference of the inner page at o.
func (im *Image) child(o, i int) int { return o + pgHeader + 8*im.u16(o+pgCount) + childBytes*i }

func (im *Image) readChain(o int) {
	for o != 0 {
		if _, seen := im.at[o]; seen {
			return
		}
		im.add(part{kind: overflow, off: o, fields: []field{
			{name: "kind", off: o + pgKind, width: 1}, {name: "level", off: o + pgLevel, width: 1}, {name: "count", off: o + pgCount, width: 2},
			{name: "birth", off: o + pgBirth, width: 8}, {name: "next", off: o + pgNext, width: 8, means: pageNumber}, {name: "self", off: o + pgSelf, width: 8, means: pageNumber},
		}})
		o = int(im.u64(o+pgNext)) * pageBytes
	}
}

func (im *Image) readBlock(o, n int) {
	p := part{kind: valueBlock, off: o, fields: []field{{name: "birth", off: o + 8, width: 8}}}
	for i := range n {
		p.fields = append(p.fields, field{name: "reference", off: o + 16 + 6*i, width: 6, means: recordRef})
	}
	im.add(p)
}

// These are offsets in a record.
const (
	recNumber, recValue, recKey, recKind, recFlags, recHeader = 4, 12, 16, 18, 19, 20
)

// shape returns the lengths of header and record at o, computed from their own fields, and the
// offset of the run list, if the record has one. ok reports whether the record fits its slot.
func (im *Image) shape(o int) (header, size, list int, ok bool) {
	s := im.slabOf(o)
	if s == nil || s.kind != slabRecords || s.slot == 0 {
		return 0, 0, 0, false
	}
	flags := im.b[o+recFlags]
	header = recHeader
	if flags&1 != 0 {
		header += 8
	}
	if flags&2 != 0 {
		header += 8
	}
	size = header
	if flags&8 == 0 {
		size += im.u16(o + recKey)
	}
	if flags&4 == 0 {
		return header, size + int(le.Uint32(im.b[o+recValue:])), 0, size+int(le.Uint32(im.b[o+recValue:])) <= s.slot
	}
	if list = o + size; size+10 > s.slot {
		return header, size, 0, false
	}
	size += 10 + 10*int(le.Uint32(im.b[list+6:]))
	return header, size, list, size <= s.slot
}

func (im *Image) readRecords() {
	for _, s := range im.slabs {
		if s.kind != slabRecords || s.slot == 0 {
			continue
		}
		for o := s.off; o+s.slot <= s.off+im.slabBytes; o += s.slot {
			im.readRecord(o)
		}
	}
}

func (im *Image) readRecord(o int) {
	header, size, list, ok := im.shape(o)
	if !ok || le.Uint32(im.b[o:]) != im.recordSum(o, header, size) {
		return
	}
	p := part{kind: record, off: o, size: size, slab: (o - im.first) / im.slabBytes, fields: []field{
		{name: "number", off: o + recNumber, width: 8}, {name: "value bytes", off: o + recValue, width: 4}, {name: "key bytes", off: o + recKey, width: 2},
		{name: "kind", off: o + recKind, width: 1}, {name: "flags", off: o + recFlags, width: 1},
	}}
	at := o + recHeader
	if im.b[o+recFlags]&1 != 0 {
		p.fields = append(p.fields, field{name: "ordinal", off: at, width: 4}, field{name: "count", off: at + 4, width: 4})
		at += 8
	}
	if im.b[o+recFlags]&2 != 0 {
		p.fields = append(p.fields, field{name: "expiry", off: at, width: 8})
	}
	if list == 0 {
		im.add(p)
		return
	}
	p.fields = append(p.fields, im.listFields(list)...)
	im.add(p)
	im.readList(list)
}

func (im *Image) listFields(list int) []field {
	out := []field{{name: "levels", off: list + 4, width: 1}, {name: "zero", off: list + 5, width: 1}, {name: "extents", off: list + 6, width: 4}}
	for i := range int(le.Uint32(im.b[list+6:])) {
		out = append(out, field{name: "extent", off: list + 10 + 10*i, width: 6, means: offset}, field{name: "extent's pages", off: list + 16 + 10*i, width: 4})
	}
	return out
}

// readList lists the run list below the one at an offset, if that has one extent.
func (im *Image) readList(list int) {
	if im.b[list+4] == 0 || le.Uint32(im.b[list+6:]) != 1 {
		return
	}
	o := im.u48(list + 10)
	im.add(part{kind: runList, off: o, sumAt: list, fields: im.listFields(o)})
	im.readList(o)
}
