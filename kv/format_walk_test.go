package kv

import (
	"encoding/binary"
	"strings"
	"testing"

	"nvkv/internal/layout"
)

// formatWalk decodes a store by docs/format.md, without any code of this package.
type formatWalk struct {
	t       *testing.T
	doc     layout.Doc
	d       *layout.Dump
	medium  []byte
	space   *layout.Space
	state   layout.Values
	ended   map[uint64]uint64 // last counter, by run
	reached map[int]bool      // offsets of the slots that the index reaches
	refs    map[int]formatRef // by offset of the record
	got     model
	newest  map[string]uint64 // number, by key
	ordinal map[string]uint64 // ordinal of that record
	ranges  []formatRecord
}

func (w *formatWalk) all() {
	w.space = w.d.Space()
	w.payload()
	if digest := w.space.LoadMaps(w.state["maps"]); digest != w.state["digest"] {
		w.t.Errorf("digest of the maps %#x, should be %#x", w.state["digest"], digest)
	}
	w.page(int(w.state["root"]), int(w.state["height"])-1, layout.Values{"birth": w.state["root birth"] & 0xffff}, "", nil)
	for i := range w.space.Slabs {
		w.slots(&w.space.Slabs[i])
	}
	for i := range w.space.Slabs {
		w.owned(&w.space.Slabs[i])
	}
}

func (w *formatWalk) payload() {
	for slot := range 4 {
		off := 4096*(slot+1) + w.doc.Off(w.t, "Superblock", "payload")
		w.d.Section("Superblock payload, slot %d", slot)
		v := w.d.Struct("Superblock payload", off)
		ended := map[uint64]uint64{}
		for i := range int(v["ended runs"]) {
			e := w.d.Struct("Ended run", off+w.doc.Size(w.t, "Superblock payload")+i*w.doc.Size(w.t, "Ended run"))
			ended[e["run"]] = e["last counter"]
		}
		if off == w.space.Payload || w.state == nil {
			w.state, w.ended = v, ended
		}
	}
}

// checksum verifies the sum at off, which covers the n-4 bytes behind it and the place.
func (w *formatWalk) checksum(what string, off, n int, said uint64) {
	w.t.Helper()
	if sum := layout.Sum(w.medium[off+4:off+n]) ^ w.placeTag(off, 0); uint64(sum) != said {
		w.t.Errorf("%s at %#x: checksum %#x, should be %#x", what, off, said, sum)
	}
}

// placeTag is the tag of a place by the document.
func (w *formatWalk) placeTag(off int, carve uint64) uint32 {
	x := binary.LittleEndian.Uint64(w.space.ID[:]) ^ uint64(off)*0x9e3779b97f4a7c15 ^ carve*0xc2b2ae3d27d4eb4f
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

// page decodes a page and the pages below. low and high are the separators around it; high is nil
// at the end.
func (w *formatWalk) page(number, level int, by layout.Values, low string, high *string) {
	off := 4096 * number
	w.reached[off] = true
	w.d.Section("Index page %d, level %d", number, level)
	v := w.d.Struct("Index page", off)
	w.checksum("index page", off, 4096, v["checksum"])
	if v["birth"]&0xffff != by["birth"] {
		w.t.Errorf("index page %d: birth %d, its parent says %d", number, v["birth"], by["birth"])
	}
	if v["self"] != uint64(number) || v["level"] != uint64(level) || (v["kind"] == 2) != (level == 0) {
		w.t.Fatalf("index page %d: self %d, level %d, kind %d", number, v["self"], v["level"], v["kind"])
	}
	prefix := string(w.d.Bytes(off+4096-int(v["prefix bytes"]), int(v["prefix bytes"]), "prefix"))
	n := int(v["count"])
	keys := make([]string, n)
	children := make([]layout.Values, n)
	for i := range n {
		keys[i] = w.entry(off, n, i, prefix, v)
		if level > 0 {
			children[i] = w.d.Struct("Child", off+32+8*n+14*i)
		}
		if i == 0 && level > 0 {
			keys[i] = low
		}
		if keys[i] < low || high != nil && keys[i] >= *high || i > 0 && keys[i] <= keys[i-1] {
			w.t.Errorf("index page %d: entry %d, %.40q, is out of order", number, i, keys[i])
		}
	}
	w.d.Ignore(off, 4096)
	if level == 0 {
		w.values(by, keys)
		return
	}
	for i, c := range children {
		below := high
		if i+1 < n {
			below = &keys[i+1]
		}
		w.page(int(c["page"]), level-1, c, keys[i], below)
	}
}

// entry prints entry i of n of the page at off, and returns its key.
func (w *formatWalk) entry(off, n, i int, prefix string, page layout.Values) string {
	head := w.d.Struct("Head of a key", off+32+4*i)["head"]
	s := w.d.Struct("Slot of a key", off+32+4*n+4*i)
	at, length := off+int(s["cell"]), int(s["length"])
	if s["cell"] < page["heap top"] {
		w.t.Errorf("cell at %#x lies below the heap top %d", at, page["heap top"])
	}
	var key string
	if length == 0xff00 {
		c := w.d.Struct("Long cell", at)
		key = w.chain(int(c["overflow"]), int(c["key bytes"]), c["birth"])
	} else {
		first := binary.BigEndian.AppendUint32(nil, uint32(head))[:min(length, 4)]
		key = prefix + string(first) + string(w.d.Bytes(at, max(length-4, 0), "cell"))
	}
	if !strings.HasPrefix(key, prefix) {
		w.t.Fatalf("key %.40q lacks the prefix %.40q", key, prefix)
	}
	var rest [4]byte
	copy(rest[:], key[len(prefix):])
	if uint64(binary.BigEndian.Uint32(rest[:])) != head && !(page["kind"] == 1 && i == 0 && head == 0) {
		w.t.Errorf("head %#x of key %.40q", head, key)
	}
	return key
}

// chain prints the overflow pages of a key.
func (w *formatWalk) chain(number, length int, birth uint64) string {
	var key []byte
	for len(key) < length {
		off := 4096 * number
		w.reached[off] = true
		w.d.Section("Overflow page %d", number)
		v := w.d.Struct("Overflow page", off)
		w.checksum("overflow page", off, 4096, v["checksum"])
		if v["self"] != uint64(number) || v["kind"] != 3 || v["count"] == 0 || v["birth"]&0xff != birth {
			w.t.Fatalf("overflow page %d: self %d, kind %d, %d bytes, birth %d", number, v["self"], v["kind"], v["count"], v["birth"])
		}
		key = append(key, w.d.Bytes(off+w.doc.Size(w.t, "Overflow page"), int(v["count"]), "key")...)
		w.d.Ignore(off, 4096)
		number = int(v["next"])
	}
	if number != 0 || len(key) != length {
		w.t.Errorf("a key of %d bytes has a chain of %d, then page %d", length, len(key), number)
	}
	return string(key)
}

// values prints a value block, and records the keys of its records.
func (w *formatWalk) values(by layout.Values, keys []string) {
	number := int(by["values"])
	off := 1024 * number
	w.reached[off] = true
	w.d.Section("Value block %d", number)
	v := w.d.Struct("Value block", off)
	w.checksum("value block", off, 1024, v["checksum"])
	if v["birth"]&0xffff != by["values birth"] {
		w.t.Errorf("value block %d: birth %d, the parent says %d", number, v["birth"], by["values birth"])
	}
	for i, key := range keys {
		r := w.d.Struct("Record reference", off+w.doc.Size(w.t, "Value block")+6*i)["record"]
		w.reached[int(r&^7)] = true
		w.refs[int(r&^7)] = formatRef{key, r & 7}
	}
	w.d.Ignore(off, 1024)
}

// slots visits every slot of a record slab.
func (w *formatWalk) slots(s *layout.Slab) {
	if s.Kind != layout.Records {
		return
	}
	for k := range s.Slots(&w.space.Geometry) {
		w.slot(s, s.Off+k*s.SlotBytes)
	}
}

// owned compares the slots that the index reaches with the map.
func (w *formatWalk) owned(s *layout.Slab) {
	for k := range s.Slots(&w.space.Geometry) {
		off := s.Off + k*s.SlotBytes
		if s.Live(k) != w.reached[off] {
			w.t.Errorf("slot at %#x of kind %d: the map says %v, the index %v", off, s.Kind, s.Live(k), w.reached[off])
		}
		w.d.Ignore(off, s.SlotBytes)
	}
}

// slot prints a record that the checkpoint names, or that is newer.
func (w *formatWalk) slot(s *layout.Slab, off int) {
	number := binary.LittleEndian.Uint64(w.medium[off+w.doc.Off(w.t, "Record", "number"):])
	last, ended := w.ended[number>>34]
	by, reached := w.refs[off]
	reached = reached && number <= w.state["last"]
	switch {
	case reached:
		w.d.Section("Record at %#x, named by the index", off)
	case number <= w.state["last"] || s.Mark < w.state["interval"] || !ended:
		return
	case number&(1<<34-1) > last:
		w.d.Section("Record at %#x, void", off)
		w.record(s, off, false)
		return
	default:
		w.d.Section("Record at %#x, newer than the checkpoint", off)
	}
	r := w.record(s, off, reached)
	if bits := r.flags>>2&1 | r.flags&2; reached && (r.key != by.key || bits != by.bits) {
		w.t.Errorf("record at %#x: key %.40q, flags %#x; the index says %.40q, %#x", off, r.key, r.flags, by.key, by.bits)
	}
	w.apply(r)
}

// apply keeps the newest version of a key. Slots come in any order, and only those of records that
// the checkpoint names and of newer ones.
func (w *formatWalk) apply(r formatRecord) {
	if r.kind == 4 {
		w.ranges = append(w.ranges, r)
	}
	if r.kind >= 3 || r.number < w.newest[r.key] || r.number == w.newest[r.key] && r.ordinal < w.ordinal[r.key] {
		return
	}
	w.newest[r.key], w.ordinal[r.key] = r.number, r.ordinal
	if r.kind == 2 {
		delete(w.got, r.key)
		return
	}
	w.got[r.key] = r.value
}

// deleteRanges deletes the older keys of the ranges.
func (w *formatWalk) deleteRanges() {
	for _, r := range w.ranges {
		for k := range w.got {
			older := w.newest[k] < r.number || w.newest[k] == r.number && w.ordinal[k] < r.ordinal
			if older && k >= r.key && (r.flags&16 != 0 || k < r.value) {
				delete(w.got, k)
			}
		}
	}
}

// formatRecord is a record decoded by the document.
type formatRecord struct {
	number, ordinal uint64
	kind, flags     uint64
	key, value      string
}

// record prints the record at off. reached says whether the index names it, and so reaches its
// runs.
func (w *formatWalk) record(s *layout.Slab, off int, reached bool) formatRecord {
	var key, value string
	ordinal := uint64(0)
	v := w.d.Struct("Record", off)
	h := w.doc.Size(w.t, "Record")
	if v["flags"]&1 != 0 {
		ordinal = w.d.Struct("Record group", off+h)["ordinal"]
		h += w.doc.Size(w.t, "Record group")
	}
	if v["flags"]&2 != 0 {
		w.d.Struct("Record expiry", off+h)
		h += w.doc.Size(w.t, "Record expiry")
	}
	size := h
	if v["flags"]&8 == 0 {
		key = string(w.d.Bytes(off+size, int(v["key bytes"]), "key"))
		size += len(key)
	}
	if v["flags"]&4 == 0 {
		value = string(w.d.Bytes(off+size, int(v["value bytes"]), "value"))
		size += len(value)
	} else {
		inRuns, n := w.runs(off+size, int(v["value bytes"])+int(v["key bytes"])-len(key), reached)
		size += n
		if v["flags"]&8 != 0 {
			key, inRuns = inRuns[:v["key bytes"]], inRuns[v["key bytes"]:]
		}
		value = inRuns
	}
	if c := w.space.RecordClass(size); c != s.Class {
		w.t.Errorf("record of %d bytes at %#x lies in class %d, should in %d", size, off, s.Class, c)
	}
	sum := layout.More(layout.Sum(w.medium[off+h:off+size]), w.medium[off+4:off+h]) ^ w.placeTag(off, uint64(s.Carve))
	if damaged := key != lost && strings.HasSuffix(key, lost[1:]); (uint64(sum) == v["checksum"]) == damaged {
		w.t.Errorf("record at %#x, key %.40q: checksum %#x, should be %#x", off, key, v["checksum"], sum)
	}
	return formatRecord{v["number"], ordinal, v["kind"], v["flags"], key, value}
}

// runs prints a run list and its extents of n bytes. It returns these bytes and the size of the
// list.
func (w *formatWalk) runs(off, n int, reached bool) (string, int) {
	v := w.d.Struct("Run list", off)
	size := w.doc.Size(w.t, "Run list")
	var body []byte
	for i := range v["extents"] {
		e := w.d.Struct("Extent", off+size)
		size += w.doc.Size(w.t, "Extent")
		at, bytes := int(e["offset"]), 4096*int(e["pages"])
		for p := at; p < at+bytes; p += 4096 {
			w.reached[p] = reached
		}
		if v["levels"] > 0 {
			if i == 0 { // its list has its own length; it has no second extent here
				inner, length := w.runs(at, n, reached)
				w.sumOf(off, v["checksum"], w.medium[at:at+length])
				body = []byte(inner)
			}
		} else {
			body = append(body, w.d.Bytes(at, min(bytes, n-len(body)), "in the run")...)
		}
		w.d.Ignore(at, bytes)
	}
	if v["levels"] == 0 {
		w.sumOf(off, v["checksum"], body)
	}
	if len(body) != n {
		w.t.Errorf("run list at %#x: %d bytes of %d", off, len(body), n)
	}
	return string(body), size
}

func (w *formatWalk) sumOf(off int, want uint64, held []byte) {
	if sum := layout.Sum(held); uint64(sum) != want {
		w.t.Errorf("run list at %#x: checksum %#x, should be %#x", off, want, sum)
	}
}
