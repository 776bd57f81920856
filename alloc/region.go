package alloc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync/atomic"

	"nvkv/nvmap"
)

// Options are the options of a new store. An existing store keeps those that it was created with.
type Options struct {
	SlabBytes  int // 0: 64 KiB; a power of two from 4 KiB to 1 MiB
	GroupSlabs int // slabs in a group, metadata included; 0: 64
	// Payload is the payload of the first superblock.
	Payload []byte
	// Unfinished makes the device count as absent until Finish. It is for a store that must exist
	// completely filled or not at all.
	Unfinished bool
}

// These are the defaults of Options.
const (
	DefaultSlabBytes  = 64 << 10
	DefaultGroupSlabs = 64
)

// formatSlabs is the number of usable slabs of a new store.
const formatSlabs = 8

// Region is a device that is divided into slabs. It is not safe for concurrent use, with the
// exceptions that its methods name: kv calls it under the writer's turn.
type Region struct {
	m     *nvmap.Map
	geo   geometry
	table classTable
	bound int64      // see SetBound
	super superblock // WriteSuper changes it; concurrent callers read only the id
	id    StoreID
	magic uint64 // magic number in the head

	slabs     []slab
	lists     []lists
	freeSlabs int
	need      Need
	kept      kept    // the room that is kept: callers that are not urgent leave it
	held      kept    // the part of it that there is: urgent callers leave it to the other kinds
	reserve   int     // number of free slabs that the kept room needs at most
	keptSlabs int     // slabs that urgent callers carved for records and runs
	keptLists []lists // lists of the kept slabs
	freeIndex int     // free slabs in extents that gather index slabs
	freeHint  int
	free      [2]slabSet // free slabs; the second set is for extents that gather index slabs

	identities identities
	unread     int         // slabs that the opening found
	unknown    []int       // slabs whose identity OpenDamaged could not read
	known      atomic.Bool // identities has all slabs
	extents    []extent
	lastExtent int
	ready      bool    // recovery has ended
	digest     uint64  // of the maps that count
	dirty      []int32 // slabs whose live map changed since the last freeze; used after Ready
	interval   uint64  // checkpoint interval for new marks
	headBad    []*CorruptError
	readOnly   bool
	off        rules // rules that a test has switched off
	refusal    refusal

	space     [kindCount]usage
	thrifty   bool     // see SetThrifty
	inLines   bool     // the medium is written in cache lines
	victims   []int32  // slabs made victims since ReleaseVictims
	wear      []uint64 // bytes of slots handed out since the opening, by group
	usable    int      // slabs that hold no metadata
	sureSlabs int      // free slabs with blocks
	goneSlabs int      // free slabs without blocks; the others are not known

	blocksHint int // slab where freeWith continues
	secureHint int // slab where secure continues, downwards

	audits audits // of a debug build

	away      int   // free slabs that are being discarded
	discarded int64 // bytes given back since the opening
}

// Format makes an empty store on a device that holds none. A1: the magic word says "creating" until
// all else is fenced, so that a crash leaves a device that counts as absent, or an empty store.
func Format(m *nvmap.Map, o Options) error { return format(m, o, 0) }

func format(m *nvmap.Map, o Options, off rules) error {
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
	if err := m.Grow(geo.leastBytes()); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	first := uint64(magicCreating)
	if off.has(ruleA1) {
		first = magicStore
	}
	if err := writeWord(m, headMagicOff, first); err != nil {
		return err
	}
	// Format writes all four slots and the size word, whatever an earlier creation left in them,
	// and nothing reads the rest of the area. They share a fence, because none of them counts
	// before the magic word.
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

// Finish makes a store that was formatted with Unfinished count. A1: the caller has fenced
// everything that must be in it.
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

// Open reads the superblock and the identity of every slab. No slot is used yet: the caller sets
// the used ones with LoadMaps and Claim, and calls Ready before it allocates. Open writes nothing.
func Open(m *nvmap.Map) (*Region, error) { return openWhole(m, 0, magicStore) }

// OpenUnread is Open without reading the slabs' descriptors, which takes time in proportion to the
// store's size. Before ReadSlabs the caller may call only Describe, WriteSuper and RewriteSuper,
// and methods that change settings of the Region.
func OpenUnread(m *nvmap.Map) (*Region, error) { return open(m, 0, magicStore) }

// OpenUnfinished is OpenUnread for a store that Format left unfinished in this process.
func OpenUnfinished(m *nvmap.Map) (*Region, error) { return open(m, 0, magicCreating) }

func open(m *nvmap.Map, off rules, magic uint64) (*Region, error) {
	sb, err := readSuper(m, off, magic)
	if err != nil {
		return nil, err
	}
	geo, err := makeGeometry(sb.slabBytes, sb.groupSlabs)
	if err != nil {
		return nil, corruptAt(slotOff(sb.generation, 0), fmt.Sprintf("superblock (%v)", err))
	}
	if sb.generation > generationMost {
		return nil, corruptAt(slotOff(sb.generation, 0), "superblock generation")
	}
	r := &Region{m: m, geo: geo, table: makeClassTable(geo.slabBytes), super: *sb, id: sb.id, magic: magic, off: off}
	r.lists = make([]lists, len(r.table.size)+int(kindCount-KindPage))
	for i := range r.lists {
		r.lists[i] = emptyLists()
	}
	r.keptLists = slices.Clone(r.lists)
	r.size()
	r.unread, err = r.readSize()
	if err != nil {
		return nil, err
	}
	r.slabs = make([]slab, r.unread)
	r.inLines = r.m.Device().Info().Unit == lineBytes
	r.identities = makeIdentities(r.geo.slabsIn(r.m.Device().Info().MaxBytes))
	return r, nil
}

// openWhole is open followed by ReadSlabs.
func openWhole(m *nvmap.Map, off rules, magic uint64) (*Region, error) {
	r, err := open(m, off, magic)
	if err != nil {
		return nil, err
	}
	return r, r.ReadSlabs()
}

// SlabCount returns the number of slabs, used or not.
func (r *Region) SlabCount() int { return len(r.slabs) }

func (r *Region) readSize() (slabs int, err error) {
	var b [8]byte
	if err := r.m.Device().Read(headSizeOff, b[:]); err != nil {
		return 0, err
	}
	n, ok := unpackSize(binary.LittleEndian.Uint64(b[:]))
	if !ok || int64(n) > r.m.Device().Info().MaxBytes/int64(r.geo.slabBytes) {
		return 0, corruptAt(headSizeOff, "size word")
	}
	if have := r.geo.slabsIn(r.m.Size()); have < n {
		return 0, corruptAt(Off(r.m.Size()), fmt.Sprintf("end of file: it is cut, %d bytes were in use", r.geo.sizeOf(n)))
	}
	return n, nil
}

// ReadSlabs reads the descriptors of all slabs, after OpenUnread.
func (r *Region) ReadSlabs() error {
	n := r.unread
	buf := make([]byte, groupHeaderSize+r.geo.groupSlabs*descBytes)
	for first := 0; first < n; first += r.geo.groupSlabs {
		group := first / r.geo.groupSlabs
		desc, err := r.view(r.geo.groupOff(group), buf)
		if err != nil {
			return err
		}
		if string(desc[:groupHeaderSize]) != string(groupHeader(&r.geo, r.id, group)) {
			// The contents of a header follow from the superblock, so this is reported and not
			// refused.
			r.found(r.geo.groupOff(group), "group header")
		}
		for i := first; i < min(n, first+r.geo.groupSlabs); i++ {
			d := desc[groupHeaderSize+(i-first)*descBytes:]
			if err := r.readDesc(i, d[:descBytes]); err != nil {
				return err
			}
		}
	}
	r.known.Store(true)
	return r.lookBehind()
}

// lookBehind reads descriptors of slabs beyond those in use, as many as one growth adds. The size
// word includes such a slab before it is carved (A5), and a slab that was cut off has an older mark
// (A12). So a mark of this interval shows that the medium lost the write of the size word.
func (r *Region) lookBehind() error {
	end := min(r.geo.slabsIn(r.m.Size()), r.unread+growBytesMost/r.geo.slabBytes+2*r.geo.groupSlabs)
	var buf [descUsed]byte
	for i := r.unread; i < end && r.interval > 0; i++ {
		d, err := r.view(r.geo.descOff(i), buf[:])
		if err != nil {
			return nil // no slabs of this store
		}
		key := descKeyOf(r.id, i)
		mark, whole := key.unpackMark(binary.LittleEndian.Uint64(d[descMark:]))
		if _, _, carve, _ := key.identity(d); carve > 0 && whole && mark >= r.interval {
			return corruptAt(headSizeOff, fmt.Sprintf("size word, of which a write was lost: slab %d, behind %d, is in use,", i, r.unread))
		}
	}
	return nil
}

// view returns len(buf) bytes of the medium at o: in place if the device is mapped, else in buf.
func (r *Region) view(o Off, buf []byte) ([]byte, error) {
	if b := r.m.View(o, len(buf)); b != nil {
		return b, nil
	}
	return buf, r.m.Device().Read(o, buf)
}

// readDesc sets a slab's identity and mark from its descriptor. Each word of a descriptor changes
// in one store. The identity is stored twice against decay.
func (r *Region) readDesc(i int, d []byte) error {
	s := &r.slabs[i]
	s.bucket = none
	le, key := binary.LittleEndian, descKeyOf(r.id, i)
	k, c, carve, bad := key.identity(d)
	switch bad {
	case 1<<0 | 1<<1:
		return corruptAt(r.geo.descOff(i), "slab identity")
	case 1 << 0:
		r.found(r.geo.descOff(i), "slab identity, first copy")
	case 1 << 1:
		r.found(r.geo.descOff(i)+descCopy, "slab identity, second copy")
	}
	mark, whole := key.unpackMark(le.Uint64(d[descMark:]))
	if !whole {
		r.found(r.geo.descOff(i)+descMark, "slab mark")
	}
	if k == KindFree && c == 0 && carve == 0 {
		return nil // never carved, or only by a commit that did not end
	}
	if r.table.slotBytes(k, c) == 0 || r.geo.isMeta(i) {
		return corruptAt(r.geo.descOff(i), "slab identity")
	}
	s.mark, s.markBad = mark, !whole
	r.identify(i, k, c, carve)
	return nil
}

// identify sets the identity of slab i.
func (r *Region) identify(i int, k Kind, c ClassID, carve uint32) {
	s := &r.slabs[i]
	s.kind, s.class, s.carve = k, c, carve
	s.slots = int32(r.geo.slabBytes / r.table.slotBytes(k, c))
	s.used, s.live = makeBits(s.slots)
	r.identities.set(i, k, c, carve)
}

// found notes damage for Check that does not stop the region.
func (r *Region) found(o Off, what string) {
	r.headBad = append(r.headBad, corruptAt(o, what))
}

// Ready ends recovery. Slabs without a used slot become free, the others are listed by their free
// space, and allocation may begin.
func (r *Region) Ready() {
	r.freeSlabs, r.freeIndex, r.extents, r.free = 0, 0, nil, [2]slabSet{}
	r.sureSlabs, r.goneSlabs = 0, 0
	r.space, r.usable, r.keptSlabs = [kindCount]usage{}, 0, 0
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
			u.live += size * int64(s.liveN)
			r.enlist(int32(i))
		}
	}
	r.keepRecovered()
	r.size()
	r.gatherAll()
}

func (r *Region) slotBytesOf(s *slab) int { return r.table.slotBytes(s.kind, s.class) }

// ID returns the store's random id.
func (r *Region) ID() StoreID { return r.id }

// Generation returns the number of the newest superblock.
func (r *Region) Generation() uint64 { return r.super.generation }

// Payload returns the payload of the newest superblock. The caller must not change it.
func (r *Region) Payload() []byte { return r.super.payload }

// PayloadOff returns where on the device the newest superblock's payload begins.
func (r *Region) PayloadOff() Off { return slotOff(r.super.generation, 0) + superHeaderSize }

// SlabBytes returns the size of a slab in bytes.
func (r *Region) SlabBytes() int { return r.geo.slabBytes }

// WriteSuper writes a superblock of the next generation with the given payload. When it returns
// nil, both copies are durable, and the older generation is not needed any more.
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

// RewriteSuper writes the head and the newest superblock again, unchanged and in place, because
// bytes that a killed process left may be visible without being durable (R12). A size word that is
// lost later would lose the newest slabs.
func (r *Region) RewriteSuper() error {
	var head [headWords]byte
	binary.LittleEndian.PutUint64(head[headMagicOff:], r.magic)
	binary.LittleEndian.PutUint64(head[headSizeOff:], packSize(len(r.slabs)))
	if err := r.m.Write(headMagicOff, head[:]); err != nil {
		return err
	}
	return writeSuper(r.m, &r.super, r.off)
}

// SetReadOnly sets whether the region writes. If it is on, allocations exist in DRAM only, as a
// recovery into private frames needs (R14).
func (r *Region) SetReadOnly(on bool) { r.readOnly = on }

// SlabOf returns the number of the slab that holds o. o must lie after the superblocks.
func (r *Region) SlabOf(o Off) int { return r.geo.slabOf(o) }

// SetInterval sets the checkpoint interval for new marks. It must grow. Every slab's mark is then
// written again with its next record.
func (r *Region) SetInterval(n uint64) { r.interval = n }

// Touch writes the mark of this interval for the slab of o, together with its identity, once per
// interval and opening: the identity from an earlier opening may be visible without being durable.
// Touch does not fence: mark and identity share the fence of the record that they announce (R5).
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
	descKeyOf(r.id, int(i)).put(b[:], s.kind, s.class, s.carve, mark)
	return r.m.Write(r.geo.descOff(int(i)), b[:])
}

// growBytesMost bounds the growth of a store in one step, unless a caller needs more. The caller
// waits until the new range is allocated and mapped, which takes half a millisecond per MiB of
// memory.
const growBytesMost = 8 << 20

// grow makes at least n more slabs free. It grows by 4 %, so that a small store stays small and a
// large one grows seldom, up to growBytesMost, so that the caller does not wait long. A5: a group's
// header, descriptors and map places are fenced before the size word that includes the group, and
// the size word is fenced before the first slab in it is carved.
func (r *Region) grow(n int) error {
	old := len(r.slabs)
	want := old + max(n, min(max(8, old/25), growBytesMost/r.geo.slabBytes))
	maxSlabs := r.geo.slabsIn(r.m.Device().Info().MaxBytes)
	least := r.withMeta(old, n)
	if least > maxSlabs {
		return r.atEnd()
	}
	want = min(r.withMeta(old, want-old), maxSlabs)
	if r.readOnly { // allocations there exist in DRAM only
		if err := r.m.Extend(r.geo.sizeOf(want)); err != nil {
			return err
		}
		r.addSlabs(old, want, math.MaxInt64)
		return nil
	}
	had := r.m.Size() // beyond the known slabs if a crash interrupted a cut
	err := r.m.Grow(r.geo.sizeOf(want))
	if want > least && errors.Is(err, ErrFull) {
		want = least // a nearly full device may have room for the least
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
	r.addSlabs(old, want, had)
	return nil
}

// SetBound tells the region which size the user allowed for the device, 0 for none, so that the
// error of a full one says so.
func (r *Region) SetBound(bytes int64) { r.bound = bytes }

// boundUnit is the unit in which a device may round its bound down, at most.
const boundUnit = 2 << 20

// atEnd returns the error of a store whose device cannot grow further.
func (r *Region) atEnd() error {
	info := r.m.Device().Info()
	why := ""
	switch {
	case r.bound > 0 && !info.Scant && info.MaxBytes <= r.bound && r.bound-info.MaxBytes < boundUnit:
		return fmt.Errorf("%w: the store has grown to the %d bytes that MaxBytes allows", ErrFull, info.MaxBytes)
	case info.Scant:
		why = ", which is the address space that it got beside the other open stores of the process"
	}
	return fmt.Errorf("%w: the device ends at %d bytes%s", ErrFull, info.MaxBytes, why)
}

// addSlabs adds the slabs [old, want) as free. Those beyond had bytes have blocks, which the device
// has just allocated.
func (r *Region) addSlabs(old, want int, had int64) {
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
	r.size()
}

// withMeta returns the number of slabs that a store with old slabs must have for n more usable
// ones.
func (r *Region) withMeta(old, n int) int {
	for n > 0 {
		if !r.geo.isMeta(old) {
			n--
		}
		old++
	}
	return old
}

// formatGroups writes the metadata of the groups that begin in [from, to), one write for each: by
// default 38 KiB for 4 MiB.
func (r *Region) formatGroups(from, to int) error {
	first := roundUp(from, r.geo.groupSlabs)
	if first >= to {
		return nil
	}
	for i := first; i < to; i += r.geo.groupSlabs {
		if err := r.m.Write(r.geo.slabOff(i), groupMeta(&r.geo, r.id, i/r.geo.groupSlabs)); err != nil {
			return err
		}
	}
	if r.off.has(ruleA5) {
		return nil
	}
	return r.m.Fence()
}

// SlabInfo describes a slab to recovery and checks.
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
	Mark      uint64 // interval of the last record written into it, as on the medium
	MarkBad   bool   // the mark is damaged: treat the slab as marked
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
	mark, ok := descKeyOf(r.id, i).unpackMark(binary.LittleEndian.Uint64(b[:]))
	info.Mark, info.MarkBad = mark, !ok
	return info
}

// marked is info with the mark that the opening found.
func (r *Region) marked(i int) SlabInfo {
	s := &r.slabs[i]
	return SlabInfo{Index: i, Off: r.geo.slabOff(i), Kind: s.kind, Class: s.class, SlotBytes: r.slotBytesOf(s),
		Slots: int(s.slots), Used: int(s.usedN), Live: int(s.liveN), Carve: s.carve, Mark: s.mark, MarkBad: s.markBad}
}

// Marked returns, in address order, the record slabs that may hold a record written in checkpoint
// interval since or later, with the marks that the opening found (R5).
func (r *Region) Marked(since uint64) []SlabInfo {
	var out []SlabInfo
	for i := range r.slabs {
		if s := &r.slabs[i]; s.kind == KindRecord && (s.markBad || s.mark >= since) {
			out = append(out, r.marked(i))
		}
	}
	return out
}

// Described is the identity of the slab of an offset.
type Described struct {
	Kind      Kind
	Carve     uint32
	SlotBytes int
}

// Describe returns the identity of the slab of o. It takes no lock and may be called at any time.
// It returns false if o is not the beginning of a slot of a carved slab. While a slab is carved
// anew, it may return the old identity or the new one.
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
			k, c, carve = r.identities.get(i) // it may have been set in between
		} else {
			k, c, carve = r.readIdentity(i)
		}
	}
	return r.described(o, i, k, c, carve)
}

// MayHold reports whether o may be a slot of kind k. It returns false if the slab is known to be
// carved into something else, or into nothing. Like Describe it takes no lock.
func (r *Region) MayHold(o Off, k Kind) bool {
	d, ok := r.Describe(o)
	return ok && d.Kind == k || d.Kind == KindFree && !r.known.Load()
}

// readIdentity returns the identity of slab i from the medium. It ignores damage, which ReadSlabs
// reports.
func (r *Region) readIdentity(i int) (Kind, ClassID, uint32) {
	if i >= r.unread {
		return KindFree, 0, 0
	}
	var buf [descUsed]byte
	b, err := r.view(r.geo.descOff(i), buf[:])
	if err != nil {
		return KindFree, 0, 0
	}
	k, c, carve, _ := descKeyOf(r.id, i).identity(b)
	return k, c, carve
}

func (r *Region) described(o Off, i int, k Kind, c ClassID, carve uint32) (d Described, ok bool) {
	d = Described{k, carve, r.table.slotBytes(k, c)}
	if d.SlotBytes == 0 {
		return d, false
	}
	within := uint32(o - r.geo.slabOff(i)) // under 1 MiB
	return d, within%uint32(d.SlotBytes) == 0 && int(within)+d.SlotBytes <= r.geo.slabBytes
}
