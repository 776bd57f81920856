package alloc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"nvkv/nvmap"
)

// Options of a new store; an existing one keeps what it was created with.
type Options struct {
	SlabBytes  int // 0: 64 KiB; a power of two from 4 KiB to 1 MiB
	GroupSlabs int // slabs in a group with its metadata; 0: 64
	// Payload of the first superblock.
	Payload []byte
	// Unfinished leaves the device counting as absent until Finish: for those
	// who fill a store that must be there as a whole or not at all.
	Unfinished bool
}

// Defaults of Options.
const (
	DefaultSlabBytes  = 64 << 10
	DefaultGroupSlabs = 64
)

// reserveSlabs are kept for whoever frees space: a full store still accepts
// deletes, path copies and the checkpoint that frees.
const reserveSlabs = 4

// Region is a device cut into slabs. It is not safe for concurrent use, with
// the exceptions that its methods name: kv calls it under the writer's turn.
type Region struct {
	m     *nvmap.Map
	geo   geometry
	table classTable
	super superblock // changed by WriteSuper, beside which only id is read
	id    StoreID
	magic uint64 // as it stands in the head

	slabs     []slab
	lists     []lists
	freeSlabs int
	reserve   int
	floor     int // of the reserve, kept from urgent callers too
	freeIndex int // free slabs in extents where index slabs gather
	freeHint  int

	identities identities
	unread     int         // slabs that the opening found
	unknown    []int       // slabs whose identity OpenDamaged could not read
	known      atomic.Bool // all of them are in identities
	extents    []extent
	lastExtent int
	ready      bool    // recovery has ended
	dirty      []int32 // slabs whose live map changed since the last freeze, once ready
	interval   uint64  // checkpoint interval that marks written now carry
	headBad    []*CorruptError
	readOnly   bool
	off        Rules // switched off by a test

	liveBytes int64
	space     [kindCount]usage
	victims   []int32  // slabs that were made victims since they were last released
	wear      []uint64 // bytes of slots handed out, by group, since the opening
	usable    int      // slabs that hold no metadata
	sureSlabs int      // free slabs that have blocks
	goneSlabs int      // free slabs that have none; nobody knows of the others

	blocksHint int // where freeWith looks next
	secureHint int // and secure, downwards

	away      int   // free slabs that are being discarded
	discarded int64 // bytes given back since the opening
}

// Format makes an empty store on a device that holds none. A1: the magic word
// says "creating" until all else is fenced, so that a crash leaves a device
// that Absent calls absent, or an empty store.
func Format(m *nvmap.Map, o Options) error { return FormatWithout(m, o, 0) }

func format(m *nvmap.Map, o Options, off Rules) error {
	geo, err := makeGeometry(orDefault(o.SlabBytes, DefaultSlabBytes), orDefault(o.GroupSlabs, DefaultGroupSlabs))
	if err != nil {
		return err
	}
	if len(o.Payload) > PayloadBytes {
		return fmt.Errorf("alloc: superblock payload of %d bytes, at most %d", len(o.Payload), PayloadBytes)
	}
	id, err := newStoreID()
	if err != nil {
		return err
	}
	if err := m.Grow(geo.sizeOf(geo.metaSlabs + reserveSlabs + 4)); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	first := uint64(magicCreating)
	if off&RuleA1 != 0 {
		first = magicStore
	}
	if err := writeWord(m, headMagicOff, first); err != nil {
		return err
	}
	// All four slots and the size word are written below, whatever a creation
	// that did not end has left in them; the rest of the area is not read. They
	// share a fence: none of them counts before the magic word says so.
	sb := superblock{id: id, slabBytes: geo.slabBytes, groupSlabs: geo.groupSlabs, payload: o.Payload}
	for sb.generation = 0; sb.generation < 2; sb.generation++ {
		b := sb.encode()
		for c := range 2 {
			if err := m.Write(slotOff(sb.generation, c), b); err != nil {
				return err
			}
		}
	}
	if err := writeWord(m, headSizeOff, packSize(0)); err != nil || o.Unfinished {
		return err
	}
	return writeWord(m, headMagicOff, magicStore)
}

// Finish makes a store that was formatted unfinished one that counts. A1: the
// caller has fenced all that must be there.
func (r *Region) Finish() error {
	r.magic = magicStore
	return writeWord(r.m, headMagicOff, r.magic)
}

func orDefault(n, d int) int {
	if n == 0 {
		return d
	}
	return n
}

// writeWord stores one word and fences it.
func writeWord(m *nvmap.Map, o Off, w uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], w)
	if err := m.Write(o, b[:]); err != nil {
		return err
	}
	return m.Fence()
}

// Open reads the superblock and what every slab was last carved into. No slot
// is used yet: the caller says which are, with LoadMaps and SetLive, and calls
// Ready before it allocates. It writes nothing.
func Open(m *nvmap.Map) (*Region, error) { return OpenWithout(m, 0) }

// OpenUnread is Open that reads no slab's descriptor, which takes time in
// proportion to the store's size. Until ReadSlabs only Describe, WriteSuper and
// RewriteSuper may be called, and what changes nothing but the Region's settings.
func OpenUnread(m *nvmap.Map, off Rules) (*Region, error) { return open(m, off, magicStore) }

// OpenUnfinished is OpenUnread of what Format left unfinished, in this process.
func OpenUnfinished(m *nvmap.Map) (*Region, error) { return open(m, 0, magicCreating) }

func open(m *nvmap.Map, off Rules, magic uint64) (*Region, error) {
	sb, err := readSuper(m, off, magic)
	if err != nil {
		return nil, err
	}
	geo, err := makeGeometry(sb.slabBytes, sb.groupSlabs)
	if err != nil {
		return nil, fmt.Errorf("%w: superblock: %v", ErrCorrupt, err)
	}
	r := &Region{m: m, geo: geo, table: makeClassTable(geo.slabBytes), super: *sb, id: sb.id, magic: magic, reserve: reserveSlabs, off: off}
	r.lists = make([]lists, len(r.table.size)+int(kindCount-KindPage))
	for i := range r.lists {
		r.lists[i] = emptyLists()
	}
	r.unread, err = r.readSize()
	if err != nil {
		return nil, err
	}
	r.slabs = make([]slab, r.unread)
	r.identities = makeIdentities(r.geo.slabsIn(r.m.Device().Info().MaxBytes))
	return r, nil
}

// openWhole is open with what every slab was carved into.
func openWhole(m *nvmap.Map, off Rules, magic uint64) (*Region, error) {
	r, err := open(m, off, magic)
	if err != nil {
		return nil, err
	}
	return r, r.ReadSlabs()
}

// SlabCount returns how many slabs there are, used or not.
func (r *Region) SlabCount() int { return len(r.slabs) }

func (r *Region) readSize() (slabs int, err error) {
	var b [8]byte
	if err := r.m.Device().Read(headSizeOff, b[:]); err != nil {
		return 0, err
	}
	n, ok := unpackSize(binary.LittleEndian.Uint64(b[:]))
	if !ok || int64(n) > r.m.Device().Info().MaxBytes/int64(r.geo.slabBytes) {
		return 0, &CorruptError{headSizeOff, "size word"}
	}
	if have := r.geo.slabsIn(r.m.Size()); have < n {
		return 0, &CorruptError{Off(r.m.Size()), fmt.Sprintf("end of file: it is cut, %d bytes were in use", r.geo.sizeOf(n))}
	}
	return n, nil
}

// ReadSlabs reads the descriptors of all slabs.
func (r *Region) ReadSlabs() error {
	n := r.unread
	buf := make([]byte, groupHeaderSize+r.geo.groupSlabs*descBytes)
	for first := 0; first < n; first += r.geo.groupSlabs {
		group := first / r.geo.groupSlabs
		desc, err := r.view(r.geo.groupOff(group), buf)
		if err != nil {
			return err
		}
		if string(desc[:groupHeaderSize]) != string(groupHeader(r.id, group)) {
			// Its content follows from the size word: worth a word, not a refusal.
			r.headBad = append(r.headBad, &CorruptError{r.geo.groupOff(group), "group header"})
		}
		for i := first; i < min(n, first+r.geo.groupSlabs); i++ {
			d := desc[groupHeaderSize+(i-first)*descBytes:]
			if err := r.readDesc(i, d[:descBytes]); err != nil {
				return err
			}
		}
	}
	r.known.Store(true)
	return nil
}

// view returns as many bytes of the medium as buf has: in place where the
// device is mapped, else in buf.
func (r *Region) view(o Off, buf []byte) ([]byte, error) {
	if b := r.m.View(o, len(buf)); b != nil {
		return b, nil
	}
	return buf, r.m.Device().Read(o, buf)
}

// readDesc takes a slab's identity from its descriptor line. Each word of it
// changes in one store; the identity stands twice against rot.
func (r *Region) readDesc(i int, d []byte) error {
	s := &r.slabs[i]
	s.bucket = none
	le := binary.LittleEndian
	w := le.Uint64(d[descIdentity:])
	if w == 0 && le.Uint64(d[descCopy:]) == 0 {
		return nil // never carved
	}
	k, c, carve, ok := unpackIdentity(w)
	if !ok {
		k, c, carve, ok = unpackIdentity(le.Uint64(d[descCopy:]))
		if w != 0 { // zero: the first carving was torn, and its copy arrived
			r.headBad = append(r.headBad, &CorruptError{r.geo.descOff(i), "slab identity, first copy"})
		}
	}
	size := r.table.slotBytes(k, c)
	if !ok && w == 0 {
		return nil // carved by a commit that did not end: the copy alone arrived, torn
	}
	if !ok || size == 0 || r.geo.isMeta(i) {
		return &CorruptError{r.geo.descOff(i), "slab identity"}
	}
	s.kind, s.class, s.carve = k, c, carve
	s.mark, s.markBad = readMark(le.Uint64(d[descMark:]))
	r.identities.set(i, k, c, carve)
	s.slots = int32(r.geo.slabBytes / size)
	s.used, s.live = makeBits(s.slots)
	return nil
}

// Ready ends recovery: slabs without a used slot become free, the others are
// listed by their free space, and allocation may begin.
func (r *Region) Ready() {
	r.freeSlabs, r.freeIndex, r.extents = 0, 0, nil
	r.sureSlabs, r.goneSlabs = 0, 0
	r.liveBytes, r.space, r.usable = 0, [kindCount]usage{}, 0
	r.ready, r.dirty = true, nil
	for i := range r.slabs {
		if r.geo.isMeta(i) {
			continue
		}
		r.addSlab(i)
		if r.slabs[i].dirty {
			r.dirty = append(r.dirty, int32(i))
		}
		switch s := &r.slabs[i]; {
		case s.kind == KindFree:
			r.countFree(int32(i), +1)
		case s.usedN == 0:
			s.kind = KindFree
			r.countFree(int32(i), +1)
		default:
			size := int64(r.slotBytesOf(s))
			u := &r.space[s.kind]
			u.slabs++
			u.used += size * int64(s.usedN)
			r.liveBytes += size * int64(s.liveN)
			r.enlist(int32(i))
		}
	}
	r.gatherAll()
}

func (r *Region) slotBytesOf(s *slab) int { return r.table.slotBytes(s.kind, s.class) }

// ID returns the store's random id.
func (r *Region) ID() StoreID { return r.id }

// Generation returns the number of the newest superblock.
func (r *Region) Generation() uint64 { return r.super.generation }

// Payload returns what the newest superblock carries. The caller must not
// change it.
func (r *Region) Payload() []byte { return r.super.payload }

// SlabBytes returns the size of a slab.
func (r *Region) SlabBytes() int { return r.geo.slabBytes }

// WriteSuper stores payload under the next generation. When it returns nil
// both copies are durable and nothing that only the last generation names is
// needed any more.
func (r *Region) WriteSuper(payload []byte) error {
	if len(payload) > PayloadBytes {
		return fmt.Errorf("alloc: superblock payload of %d bytes, at most %d", len(payload), PayloadBytes)
	}
	next := r.super
	next.generation++
	next.payload = append([]byte(nil), payload...)
	if err := writeSuper(r.m, &next, r.off); err != nil {
		return err
	}
	r.super = next
	return nil
}

// RewriteSuper stores the head and the newest superblock again, unchanged and in
// place: what was read of them may not be durable, when a killed process left it
// (R12). A size word that is lost later would take the newest slabs with it.
func (r *Region) RewriteSuper() error {
	var head [headWords]byte
	binary.LittleEndian.PutUint64(head[headMagicOff:], r.magic)
	binary.LittleEndian.PutUint64(head[headSizeOff:], packSize(len(r.slabs)))
	if err := r.m.Write(headMagicOff, head[:]); err != nil {
		return err
	}
	return writeSuper(r.m, &r.super, r.off)
}

// SetReadOnly keeps the region from writing: what is allocated then exists in
// DRAM only, as a recovery into private frames wants it (R14).
func (r *Region) SetReadOnly(on bool) { r.readOnly = on }

// SlabOf returns the number of the slab that holds o, which must lie behind
// the superblocks.
func (r *Region) SlabOf(o Off) int { return r.geo.slabOf(o) }

// SetInterval sets the checkpoint interval that marks carry from now on. It
// must grow. Every slab's mark is written again with its next record.
func (r *Region) SetInterval(n uint64) { r.interval = n }

// Touch makes the slab of o carry the mark of this interval, and writes its
// identity again with it, once an interval and opening: what a former opening
// wrote may be visible without being durable. It does not fence: mark and
// identity ride on the fence of the record that they announce (R5).
func (r *Region) Touch(o Off) error {
	i := int32(r.geo.slabOf(o))
	if r.slabs[i].touched == r.interval {
		return nil
	}
	if err := r.writeDesc(i, r.interval); err != nil {
		return err
	}
	r.slabs[i].touched = r.interval
	return nil
}

func (r *Region) writeDesc(i int32, mark uint64) error {
	if r.readOnly {
		return nil
	}
	s := &r.slabs[i]
	var b [descUsed]byte
	le := binary.LittleEndian
	id := packIdentity(s.kind, s.class, s.carve)
	le.PutUint64(b[descIdentity:], id)
	le.PutUint64(b[descMark:], packMark(mark))
	le.PutUint64(b[descCopy:], id)
	return r.m.Write(r.geo.descOff(int(i)), b[:])
}

// growBytesMost bounds what a store grows by at a time, unless more is asked for:
// whoever needs the room waits until all of it has been allocated and mapped,
// half a millisecond for a MiB of memory.
const growBytesMost = 8 << 20

// grow makes at least n more slabs free. It grows by 4 % so that a small store
// stays small and a large one grows seldom, and not by so much that the caller
// is held up for long. A5: a group's header and emptied
// descriptors are fenced before the size word that makes it exist, and that is
// fenced before the first slab in it is carved.
func (r *Region) grow(n int) error {
	old := len(r.slabs)
	want := old + max(n, min(max(8, old/25), growBytesMost/r.geo.slabBytes))
	maxSlabs := r.geo.slabsIn(r.m.Device().Info().MaxBytes)
	least := r.withMeta(old, n)
	if r.readOnly {
		return fmt.Errorf("%w: a store opened read-only does not grow", ErrFull)
	}
	if least > maxSlabs {
		return fmt.Errorf("%w: the device ends at %d bytes", ErrFull, r.m.Device().Info().MaxBytes)
	}
	want = min(r.withMeta(old, want-old), maxSlabs)
	had := r.m.Size() // more than is known of, if a crash came while it was cut
	err := r.m.Grow(r.geo.sizeOf(want))
	if want > least && errors.Is(err, ErrFull) {
		want = least // a device nearly full may have room for what is asked
		err = r.m.Grow(r.geo.sizeOf(want))
	}
	if err != nil {
		return err
	}
	if err := r.formatGroups(old, want); err != nil {
		return err
	}
	if err := writeWord(r.m, headSizeOff, packSize(want)); err != nil {
		return err
	}
	for i := old; i < want; i++ {
		r.slabs = append(r.slabs, slab{bucket: none})
		if int64(r.geo.slabOff(i)) >= had {
			r.slabs[i].blocks = blocksThere
		}
		if !r.geo.isMeta(i) {
			r.addSlab(i)
			r.countFree(int32(i), +1)
		}
	}
	return nil
}

// withMeta returns how many slabs there must be for n usable ones beyond old.
func (r *Region) withMeta(old, n int) int {
	for n > 0 {
		if !r.geo.isMeta(old) {
			n--
		}
		old++
	}
	return old
}

// formatGroups writes the metadata of the groups that begin in [from, to).
func (r *Region) formatGroups(from, to int) error {
	first := roundUp(from, r.geo.groupSlabs)
	if first >= to {
		return nil
	}
	for i := first; i < to; i += r.geo.groupSlabs {
		meta := make([]byte, r.geo.metaSlabs*r.geo.slabBytes)
		o := r.geo.slabOff(i)
		if err := r.m.Device().Read(o, meta); err != nil {
			return err
		}
		if !allZero(meta) { // a device that held something else before
			if err := r.m.Write(o, make([]byte, len(meta))); err != nil {
				return err
			}
		}
		if err := r.m.Write(o, groupHeader(r.id, i/r.geo.groupSlabs)); err != nil {
			return err
		}
	}
	if r.off&RuleA5 != 0 {
		return nil
	}
	return r.m.Fence()
}

// SlabInfo is a slab as recovery and checks see it.
type SlabInfo struct {
	Index     int
	Off       Off
	Kind      Kind
	Class     ClassID
	SlotBytes int
	Slots     int
	Used      int
	Live      int
	Carve     uint32
	Mark      uint64 // checkpoint interval of the last record header; as on the medium
	MarkBad   bool   // the mark has rotted: treat the slab as marked
}

// Slabs yields every carved slab in address order.
func (r *Region) Slabs() iter.Seq[SlabInfo] {
	return func(yield func(SlabInfo) bool) {
		for i := range r.slabs {
			if r.slabs[i].kind == KindFree || r.geo.isMeta(i) {
				continue
			}
			if !yield(r.info(i)) {
				return
			}
		}
	}
}

func (r *Region) info(i int) SlabInfo {
	info := r.marked(i)
	var b [8]byte
	if err := r.m.Device().Read(r.geo.descOff(i)+descMark, b[:]); err != nil {
		info.MarkBad = true
		return info
	}
	info.Mark, info.MarkBad = readMark(binary.LittleEndian.Uint64(b[:]))
	return info
}

// marked is info with the mark that the opening found.
func (r *Region) marked(i int) SlabInfo {
	s := &r.slabs[i]
	return SlabInfo{Index: i, Off: r.geo.slabOff(i), Kind: s.kind, Class: s.class, SlotBytes: r.slotBytesOf(s),
		Slots: int(s.slots), Used: int(s.usedN), Live: int(s.liveN), Carve: s.carve, Mark: s.mark, MarkBad: s.markBad}
}

// readMark decodes the word of a mark; zero is none.
func readMark(w uint64) (interval uint64, bad bool) {
	interval, ok := unpackMark(w)
	return interval, !ok && w != 0
}

// Marked returns, in address order, the record slabs that may hold a record
// header written in checkpoint interval since or later, as they were when the
// store was opened (R5).
func (r *Region) Marked(since uint64) []SlabInfo {
	var out []SlabInfo
	for i := range r.slabs {
		if s := &r.slabs[i]; s.kind == KindRecord && (s.markBad || s.mark >= since) {
			out = append(out, r.marked(i))
		}
	}
	return out
}

// Described is what the slab of an offset is carved into.
type Described struct {
	Kind      Kind
	Carve     uint32
	SlotBytes int
}

// Describe returns what the slab of o is carved into. It takes no lock and is
// safe beside everything. It returns false where o is not the beginning of a
// slot of a carved slab; while a slab is carved anew, what it returns may be
// either.
func (r *Region) Describe(o Off) (d Described, ok bool) {
	if o < Off(r.geo.superBytes) {
		return d, false
	}
	i := r.geo.slabOf(o)
	if r.geo.isMeta(i) {
		return d, false
	}
	k, c, carve := r.identities.get(i)
	if k == KindFree {
		if r.known.Load() {
			k, c, carve = r.identities.get(i) // it may have become known in between
		} else {
			k, c, carve = r.readIdentity(i)
		}
	}
	return r.described(o, i, k, c, carve)
}

// readIdentity returns what the medium says that a slab is carved into. Whoever
// reads the slabs of the region meanwhile reports what is wrong.
func (r *Region) readIdentity(i int) (Kind, ClassID, uint32) {
	if i >= r.unread {
		return KindFree, 0, 0
	}
	var buf [descUsed]byte
	b, err := r.view(r.geo.descOff(i), buf[:])
	if err != nil {
		return KindFree, 0, 0
	}
	for _, at := range [2]int{descIdentity, descCopy} {
		if k, c, carve, ok := unpackIdentity(binary.LittleEndian.Uint64(b[at:])); ok {
			return k, c, carve
		}
	}
	return KindFree, 0, 0
}

func (r *Region) described(o Off, i int, k Kind, c ClassID, carve uint32) (d Described, ok bool) {
	d = Described{k, carve, r.table.slotBytes(k, c)}
	if d.SlotBytes == 0 {
		return d, false
	}
	within := uint32(o - r.geo.slabOff(i)) // under 1 MiB
	return d, within%uint32(d.SlotBytes) == 0 && int(within)+d.SlotBytes <= r.geo.slabBytes
}
