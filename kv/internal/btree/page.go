package btree

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Page is an index page: a sorted array of keys, and in inner pages the children between them.
// Format: docs/format.md, "Index page".
//
//	header | heads: 4 bytes a key | slots: 4 bytes a key | children: 14 bytes a key (inner) | free | cells | prefix
//
// The prefix is common to all keys between the page's fences. The rest of a key is its bytes behind
// the prefix. A head is the first four bytes of the rest as a number. The heads lie side by side
// behind the header and are prefetched together, so most of a search reads nothing else. A slot
// holds the length of the rest and the offset of the cell, which has the bytes of the rest behind
// the head. Entry 0 of an inner page stands for all keys below entry 1.
//
// A page may be read while it is being changed (lookup.go). Whatever such a reader finds, no method
// panics or reads outside the page. The result then means nothing, and the page's version shows it.
type Page = [nvmap.PageBytes]byte

const (
	PageSum   = 0  // 4: checksum, written when the page is written to the device
	pgKind    = 4  // 1: pageInner or pageLeaf
	pgLevel   = 5  // 1: 0 for leaves
	pgCount   = 6  // 2: keys
	pgBirth   = 8  // 8: epoch in which the page was born
	pgHeapTop = 16 // 2: lowest offset of the cells
	pgPrefix  = 18 // 2: length of the prefix, which is at the end of the page
	pgGarbage = 20 // 2: bytes among the cells that no slot names
	pgSelf    = 24 // 8: the page's own number, to detect misplaced writes
	pgHeader  = 32

	pageInner = 1
	pageLeaf  = 2

	headBytes  = 4
	slotWidth  = 4
	childWidth = 14

	maxCount   = (nvmap.PageBytes - pgHeader) / (headBytes + slotWidth)
	maxPrefix  = 255  // longest prefix
	maxInline  = 900  // a longer key continues in overflow pages
	longMark   = 0xff // high byte of a slot's length: the cell is a long cell
	longLen    = longMark << 8
	longCell   = 8 // key length 2, first overflow page 5, low byte of its birth 1
	LeafFanout = (alloc.BlockBytes - vbHeader) / vbEntry
)

// Vals is a value block: the references of one leaf. They are not in the leaf's page, so that an
// update changes 1 KiB and not 4. Format: docs/format.md, "Value block".
type Vals = [alloc.BlockBytes]byte

const (
	ValsSum  = 0 // 4: checksum
	vbBirth  = 8 // 8
	vbHeader = 16
	vbEntry  = 6
)

// Child names a page below an inner page, and its value block if it is a leaf. The births
// distinguish the page from earlier contents of its place, so a write that the medium lost is
// detected.
//
// A Child also states the level of the page, and every page is checked against it. So a descent
// reaches a leaf in as many steps as the root has levels, whatever the pages hold.
type Child struct {
	Page     nvmap.PageID
	Vals     uint64 // number of the value block: its offset / alloc.BlockBytes; 0 above leaves
	above    uint64 // birth of the parent: page and block must not be younger
	born     uint16 // low bits of the page's birth
	valsBorn uint16
	level    int8 // 0: a leaf; or rootLevel or chainLevel
	loose    bool // no parent's entry names it, so its births are unknown
}

const (
	rootLevel  = -1 // an inner page of any level
	chainLevel = -2 // an overflow page
)

// RootAt and chainAt return the Child for a page that no parent names: a root, an overflow page.
func RootAt(id nvmap.PageID) Child  { return Child{Page: id, loose: true, level: rootLevel} }
func chainAt(id nvmap.PageID) Child { return Child{Page: id, loose: true, level: chainLevel} }

// is says whether pg, which has passed pageSound, has the level and kind that c states. Only inner
// pages have a level above 0.
func (c *Child) is(pg *Page) bool {
	level := int8(pg[pgLevel])
	if c.level > 0 {
		return level == c.level
	}
	switch c.level {
	case 0:
		return level == 0 && pg[pgKind] == pageLeaf && c.Vals != 0
	case rootLevel:
		return level > 0 && level < MaxHeight
	}
	return pg[pgKind] == pageOverflow
}

// wrong returns the error for a page for which is returned false.
func (c *Child) wrong() error {
	return &record.CorruptError{Off: uint64(c.Page.Off()), Structure: "index page level"}
}

func (c Child) ValsOff() nvmap.Off { return nvmap.Off(c.Vals) * alloc.BlockBytes }

func u16(p *Page, o int) int       { return int(binary.LittleEndian.Uint16(p[o&(len(p)-2):])) }
func put16(p *Page, o int, v int)  { binary.LittleEndian.PutUint16(p[o:], uint16(v)) }
func Count(p *Page) int            { return min(u16(p, pgCount), maxCount) }
func pagePrefixLen(p *Page) int    { return min(u16(p, pgPrefix), maxPrefix) }
func pagePrefix(p *Page) []byte    { return p[len(p)-pagePrefixLen(p):] }
func Level(p *Page) int            { return int(p[pgLevel]) }
func Birth(p *Page) uint64         { return binary.LittleEndian.Uint64(p[pgBirth:]) }
func setBirth(p *Page, e uint64)   { binary.LittleEndian.PutUint64(p[pgBirth:], e) }
func ValsBirth(b *Vals) uint64     { return binary.LittleEndian.Uint64(b[vbBirth:]) }
func setVbBirth(b *Vals, e uint64) { binary.LittleEndian.PutUint64(b[vbBirth:], e) }

// head returns the i-th head. i < maxCount, so it lies inside the page; a bounds check here would
// cost a third of a search.
func head(p *Page, i int) uint32 {
	return binary.LittleEndian.Uint32((*[headBytes]byte)(unsafe.Add(unsafe.Pointer(p), pgHeader+headBytes*i))[:])
}

// slot returns the i-th of n slots: the offset of the cell and the length of the rest.
// i < n <= maxCount, so it lies inside the page.
func slot(p *Page, n, i int) (off, length uint32) {
	w := binary.LittleEndian.Uint32((*[slotWidth]byte)(unsafe.Add(unsafe.Pointer(p), slotsAt(n)+slotWidth*i))[:])
	return w & 0xffff, w >> 16
}

// lead returns the eight bytes at off as a number. off <= len(p)-8.
func lead(p *Page, off uint32) uint64 {
	return binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(unsafe.Pointer(p), off))[:])
}

func setHead(p *Page, i int, h uint32) {
	binary.LittleEndian.PutUint32(p[pgHeader+headBytes*i:], h)
}

func slotsAt(n int) int            { return pgHeader + headBytes*n }
func childrenAt(n int) int         { return pgHeader + (headBytes+slotWidth)*n }
func payload(p *Page) int          { return int(p[pgKind]&pageInner) * childWidth }
func arraysEnd(p *Page, n int) int { return pgHeader + (headBytes+slotWidth+payload(p))*n }

// restLen returns the length of the rest of the i-th of n keys.
func restLen(p *Page, n, i int) int { return u16(p, slotsAt(n)+slotWidth*i+2) }

// cellBytes returns how many bytes of a rest are in its cell: those behind the head.
func cellBytes(rest int) int { return max(rest-headBytes, 0) }

// cell returns offset and length of the cell of the i-th of n keys, clipped to the page.
func cell(p *Page, n, i int) (off, length int, long bool) {
	off, length = u16(p, slotsAt(n)+slotWidth*i), restLen(p, n, i)
	if length>>8 == longMark {
		length, long = longCell, true
	} else {
		length = cellBytes(length)
	}
	if off > len(p)-length {
		off, length = 0, 0
	}
	return off, length, long
}

// ChildAt returns the i-th of n children.
func ChildAt(p *Page, n, i int) Child {
	c := childIn(p, n, i)
	c.above = Birth(p)
	return c
}

// childIn is ChildAt without the parent's birth. It is small enough to be inlined in point reads.
func childIn(p *Page, n, i int) Child {
	o := childrenAt(n) + childWidth*i
	if o > len(p)-16 {
		o = len(p) - 16 // only in a page that is being changed
	}
	const mask = 1<<40 - 1
	le := binary.LittleEndian
	births := le.Uint32(p[o+10:])
	return Child{
		Page: nvmap.PageID(le.Uint64(p[o:]) & mask), Vals: le.Uint64(p[o+5:]) & mask,
		born: uint16(births), valsBorn: uint16(births >> 16), level: int8(p[pgLevel]) - 1,
	}
}

func setChildAt(p *Page, n, i int, c Child) {
	b := p[childrenAt(n)+childWidth*i:][:childWidth]
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(c.Page))
	b[4] = byte(c.Page >> 32)
	le.PutUint32(b[5:], uint32(c.Vals))
	b[9] = byte(c.Vals >> 32)
	le.PutUint16(b[10:], c.born)
	le.PutUint16(b[12:], c.valsBorn)
}

// ValAt returns the i-th reference of a value block. i < LeafFanout.
func ValAt(b *Vals, i int) nvmap.Off {
	o := vbHeader + vbEntry*i
	return nvmap.Off(binary.LittleEndian.Uint32(b[o:])) | nvmap.Off(binary.LittleEndian.Uint16(b[o+4:]))<<32
}

func setValAt(b *Vals, i int, v nvmap.Off) {
	o := vbHeader + vbEntry*i
	binary.LittleEndian.PutUint32(b[o:], uint32(v))
	binary.LittleEndian.PutUint16(b[o+4:], uint16(v>>32))
}

// initPage makes p an empty page.
func initPage(p *Page, id nvmap.PageID, level int, birth uint64, prefix []byte) {
	clear(p[:])
	p[pgKind], p[pgLevel] = pageInner, byte(level)
	if level == 0 {
		p[pgKind] = pageLeaf
	}
	setBirth(p, birth)
	binary.LittleEndian.PutUint64(p[pgSelf:], uint64(id))
	put16(p, pgPrefix, len(prefix))
	copy(p[len(p)-len(prefix):], prefix)
	put16(p, pgHeapTop, len(p)-len(prefix))
}

// freeBytes returns how many bytes of a page are free, garbage included.
func freeBytes(p *Page) int {
	return u16(p, pgHeapTop) - arraysEnd(p, Count(p)) + u16(p, pgGarbage)
}

// usedBytes returns how many bytes the entries and the prefix take.
func usedBytes(p *Page) int { return len(p) - pgHeader - freeBytes(p) }

// entryBytes returns how many bytes an entry takes whose cell has n bytes.
func entryBytes(p *Page, n int) int { return headBytes + slotWidth + payload(p) + n }

// pageItem is what a page stores of a key.
type pageItem struct {
	head   uint32
	length int // as in the slot
	cell   []byte
}

// itemOf returns the item of a rest.
func itemOf(rest []byte) pageItem {
	return pageItem{headOf(rest), len(rest), rest[min(headBytes, len(rest)):]}
}

// insertEntry inserts an item as entry i. The caller has checked freeBytes(p). scratch is used if
// the page must be packed first.
func insertEntry(p *Page, i int, it pageItem, ch Child, scratch *Page) {
	n, c := Count(p), it.cell
	if u16(p, pgHeapTop)-arraysEnd(p, n) < entryBytes(p, len(c)) {
		packPage(p, scratch)
	}
	w := payload(p)
	top := u16(p, pgHeapTop) - len(c)
	copy(p[top:], c)
	put16(p, pgHeapTop, top)
	// Open a gap in each array, the last array first.
	if w > 0 {
		from, to := childrenAt(n), childrenAt(n+1)
		copy(p[to+w*(i+1):], p[from+w*i:from+w*n])
		copy(p[to:to+w*i], p[from:from+w*i])
	}
	from, to := slotsAt(n), slotsAt(n+1)
	copy(p[to+slotWidth*(i+1):], p[from+slotWidth*i:from+slotWidth*n])
	copy(p[to:to+slotWidth*i], p[from:from+slotWidth*i])
	copy(p[pgHeader+headBytes*(i+1):], p[pgHeader+headBytes*i:pgHeader+headBytes*n])
	setHead(p, i, it.head)
	put16(p, to+slotWidth*i, top)
	put16(p, to+slotWidth*i+2, it.length)
	put16(p, pgCount, n+1)
	if w > 0 {
		setChildAt(p, n+1, i, ch)
	}
}

// removeEntry removes entry i.
func removeEntry(p *Page, i int) {
	n := Count(p)
	_, length, _ := cell(p, n, i)
	put16(p, pgGarbage, u16(p, pgGarbage)+length)
	w := payload(p)
	copy(p[pgHeader+headBytes*i:], p[pgHeader+headBytes*(i+1):pgHeader+headBytes*n])
	from, to := slotsAt(n), slotsAt(n-1)
	copy(p[to:], p[from:from+slotWidth*i])
	copy(p[to+slotWidth*i:], p[from+slotWidth*(i+1):from+slotWidth*n])
	if w > 0 {
		from, to := childrenAt(n), childrenAt(n-1)
		copy(p[to:], p[from:from+w*i])
		copy(p[to+w*i:], p[from+w*(i+1):from+w*n])
	}
	put16(p, pgCount, n-1)
}

// packPage moves the cells together, so that no garbage is left.
func packPage(p, scratch *Page) {
	*scratch = *p
	n := Count(p)
	top := len(p) - pagePrefixLen(p)
	for i := range n {
		off, length, _ := cell(scratch, n, i)
		top -= length
		copy(p[top:], scratch[off:off+length])
		put16(p, slotsAt(n)+slotWidth*i, top)
	}
	put16(p, pgHeapTop, top)
	put16(p, pgGarbage, 0)
}

// pageSealed and valsSealed verify a page or a value block: its checksum, and for a page its number
// and its structure. A checkpoint writes the checksums (DB.seal).
func pageSealed(p *Page, seed uint64, id nvmap.PageID) bool {
	return binary.LittleEndian.Uint32(p[PageSum:]) == record.PlaceSum(p[:], seed, id.Off()) &&
		binary.LittleEndian.Uint64(p[pgSelf:]) == uint64(id) && pageSound(p, id)
}

func valsSealed(b *Vals, seed uint64, o nvmap.Off) bool {
	return binary.LittleEndian.Uint32(b[ValsSum:]) == record.PlaceSum(b[:], seed, o)
}

// CommonPrefix returns how many bytes a and b share at their beginning.
func CommonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// separator returns the shortest key that is greater than a and not greater
// than b, given a < b. It aliases b.
func separator(a, b []byte) []byte { return b[:CommonPrefix(a, b)+1] }

// fencePrefix returns the common prefix of all keys in [low, high). It is empty if a fence is open
// (nil).
func fencePrefix(low, high []byte) []byte {
	if low == nil || high == nil {
		return nil
	}
	return low[:min(CommonPrefix(low, high), maxPrefix)]
}

// appendRest appends the rest of entry i of n, whose cell is not a long one.
func appendRest(dst []byte, p *Page, n, i int) []byte {
	var h [headBytes]byte
	binary.BigEndian.PutUint32(h[:], head(p, i))
	off, length, _ := cell(p, n, i)
	dst = append(dst, h[:min(restLen(p, n, i), headBytes)]...)
	return append(dst, p[off:off+length]...)
}
