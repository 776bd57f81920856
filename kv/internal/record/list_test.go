package record

import (
	"bytes"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// disk is a device of pages that hold lists.
type disk []byte

func (d disk) read(o nvmap.Off, n int) []byte {
	if int64(o) > int64(len(d)-n) {
		return nil
	}
	return d[o:][:n:n]
}

// scatter returns extents of single pages that hold n bytes, beginning at page from.
func scatter(from int, n int64) (out []alloc.Extent) {
	for i := range wholePages(n) {
		out = append(out, alloc.Extent{Off: nvmap.Off(int64(from)+i) * nvmap.PageBytes, Bytes: nvmap.PageBytes})
	}
	return out
}

// nested writes run lists of some levels for a value of n bytes into d. It returns the record and
// all extents.
func nested(d disk, n int64, levels int) (Record, []alloc.Extent) {
	at := 0
	extents := scatter(at, n)
	at += len(extents)
	all, sum := extents, uint32(0)
	for level := range levels {
		list := AppendRunList(nil, sum, level, extents)
		sum = BodySum(list)
		extents = scatter(at, int64(len(list)))
		copy(d[at*nvmap.PageBytes:], list)
		at += len(extents)
		all = append(slices.Clone(extents), all...)
	}
	return Record{Kind: KindPut, Flags: FlagSpill, ValLen: int(n), List: AppendRunList(nil, sum, levels, extents)}, all
}

// TestReadLists: lists of each level are read as they were written.
func TestReadLists(t *testing.T) {
	d := make(disk, 4<<20)
	for levels := range MaxListLevels + 1 {
		for _, n := range []int64{1, nvmap.PageBytes, 3<<20 + 1} {
			r, all := nested(d, n, levels)
			l, ok := r.ReadLists(int64(len(d)), d.read)
			if !ok || !slices.Equal(l.Extents, all) || !slices.Equal(l.Data(), scatter(0, n)) || len(l.Listing())+len(l.Data()) != len(all) {
				t.Errorf("%d levels, %d bytes: %v, %d extents of %d", levels, n, ok, len(l.Extents), len(all))
			}
			pages := slices.Collect(l.ListPages())
			if len(pages) != len(l.Listing()) {
				t.Errorf("%d levels, %d bytes: %d pages of lists", levels, n, len(pages))
			}
		}
	}
}

// TestReadListsRefuses: a change of any byte below the first list is detected.
func TestReadListsRefuses(t *testing.T) {
	d := make(disk, 1<<20)
	r, _ := nested(d, 100_000, 2)
	from := int(wholePages(100_000)) * nvmap.PageBytes
	list := ListBytes(wholePages(100_000))
	for o := from; o < from+int(list); o++ {
		d[o] ^= 0x40
		if _, ok := r.ReadLists(int64(len(d)), d.read); ok {
			t.Errorf("a change at %d passes", o-from)
		}
		d[o] ^= 0x40
	}
	if _, ok := r.ReadLists(1<<16, d.read); ok {
		t.Error("a value that is longer than the device is found on it")
	}
	for _, b := range [][]byte{nil, make([]byte, 9), {0, 0, 0, 0, MaxListLevels + 1, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 1, 0, 0, 0, 0}} {
		if _, ok := RunListBytes(b); ok {
			t.Errorf("% x is taken for a list", b)
		}
	}
	for n := ListHeaderBytes; n < 200; n++ {
		if most := ExtentsIn(n); ListBytes(most) > int64(n) || ListBytes(most+1) <= int64(n) {
			t.Errorf("%d extents in %d bytes", most, n)
		}
	}
}

// FuzzReadLists: whatever the lists contain, the reader ends, and the extents that it returns lie
// on the device and are as long as the value.
func FuzzReadLists(f *testing.F) {
	d := make(disk, 1<<20)
	for levels := range MaxListLevels + 1 {
		r, _ := nested(d, 300_000, levels)
		f.Add(r.List, 300_000, []byte(d)[74*nvmap.PageBytes:][:2*nvmap.PageBytes:2*nvmap.PageBytes])
	}
	f.Fuzz(func(t *testing.T, list []byte, n int, pages []byte) {
		whole, ok := RunListBytes(list)
		if n < 0 || n > MaxValueBytes || !ok || int64(len(list)) < whole {
			return // Parse refuses it
		}
		d := make(disk, 1<<20)
		copy(d[74*nvmap.PageBytes:], pages)
		r := Record{Flags: FlagSpill, ValLen: n, List: bytes.Clone(list)}
		l, ok := r.ReadLists(int64(len(d)), d.read)
		if !ok {
			return
		}
		data := int64(0)
		for _, e := range l.Extents {
			if e.Bytes <= 0 || int64(e.Off)+e.Bytes > int64(len(d)) {
				t.Fatalf("extent %+v", e)
			}
		}
		for _, e := range l.Data() {
			data += e.Bytes
		}
		if data != wholePages(int64(n))*nvmap.PageBytes {
			t.Fatalf("%d bytes of extents for a value of %d", data, n)
		}
	})
}
