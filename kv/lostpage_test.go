package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// agedStore returns images of a closed store at two times, with different index pages and value
// blocks in the same places, and its contents.
func agedStore(t *testing.T) (older, image []byte, m model) {
	dev := newRotMedium(t, 1<<24)
	m = model{}
	key := func(i int) string { return fmt.Sprintf("%05d", i) }
	for round := range 7 {
		db, err := OpenDevice(dev, &Options{SlabBytes: 4096, EvacuateBytes: -1})
		must(t, err)
		for i := range 60 {
			k, v := key((i*37+round*11)%500), fmt.Sprint("value ", round)
			must(t, db.Put([]byte(k), []byte(v)))
			m[k] = v
			if i%20 == 0 {
				must(t, db.Checkpoint(t.Context()))
			}
		}
		must(t, db.Close())
		if round == 3 {
			older = dev.bytes(t)
		}
	}
	return older, dev.bytes(t), m
}

// TestPagesOfAnotherTimeOrPlace: an earlier content of a page or block, left by a lost write, and
// the content of another place are damage, which is reported. No key returns a value that is not
// its own.
func TestPagesOfAnotherTimeOrPlace(t *testing.T) {
	older, image, m := agedStore(t)
	var pages, blocks []int
	db, err := openImage(t, image)
	must(t, err)
	must(t, db.ix.Walk(db.ix.Root(), &btree.Visitor{
		Page: func(id nvmap.PageID, _ *btree.Page) (bool, error) {
			pages = append(pages, int(id.Off()))
			return true, nil
		},
		Vals: func(n uint64, _ *btree.Vals) error { blocks = append(blocks, int(n)*1024); return nil },
	}))
	seed := db.seed
	must(t, db.Close())
	noticed, stale := 0, 0
	spoil := func(what string, size int, places []int, with func(i int) []byte) {
		for i, o := range places {
			bad := bytes.Clone(image)
			if new := with(i); new == nil || bytes.Equal(new, bad[o:o+size]) {
				continue
			} else if copy(bad[o:], new); binary.LittleEndian.Uint32(new) == record.PlaceSum(new, seed, nvmap.Off(o)) {
				stale++
			}
			if lostOrWrong(t, fmt.Sprintf("%s at %#x", what, o), bad, m) {
				noticed++
			}
		}
	}
	from := func(image []byte, size int, places []int, next int) func(int) []byte {
		return func(i int) []byte {
			o := places[(i+next)%len(places)]
			if o+size > len(image) {
				return nil
			}
			return image[o : o+size]
		}
	}
	spoil("a page of another time", 4096, pages, from(older, 4096, pages, 0))
	spoil("a block of another time", 1024, blocks, from(older, 1024, blocks, 0))
	aged := stale
	spoil("another page", 4096, pages, from(image, 4096, pages, 1))
	spoil("another block", 1024, blocks, from(image, 1024, blocks, 1))
	for _, fill := range []byte{0, 0xff} {
		spoil("a filled page", 4096, pages, func(int) []byte { return bytes.Repeat([]byte{fill}, 4096) })
		spoil("a filled block", 1024, blocks, func(int) []byte { return bytes.Repeat([]byte{fill}, 1024) })
	}
	if aged == 0 || stale > aged || noticed == 0 {
		t.Errorf("%d of %d pages and blocks of another time would pass without births, %d of other places; %d noticed", aged, len(pages)+len(blocks), stale-aged, noticed)
	}
}

// lostOrWrong reads and writes all keys of a damaged store, and says whether the damage was
// detected. A wrong value fails the test.
func lostOrWrong(t *testing.T, what string, image []byte, m model) (noticed bool) {
	t.Helper()
	db, err := openImage(t, image)
	if err != nil {
		if !tellsWhy(err) {
			t.Errorf("%s: Open: %v", what, err)
		}
		return true
	}
	defer db.Close()
	for k, v := range m {
		got, err := db.Get([]byte(k))
		if err == nil && string(got) != v || err != nil && !tellsWhy(err) {
			t.Errorf("%s: Get(%s) = %q, %v; want %q", what, k, got, err, v)
		}
		noticed = noticed || err != nil
	}
	if !noticed {
		t.Errorf("%s: nobody notices", what)
	}
	_ = db.Check(t.Context(), func(CheckIssue) {})
	for k := range m {
		if err := db.Put([]byte(k), nil); err != nil && !tellsWhy(err) {
			t.Errorf("%s: Put(%s): %v", what, k, err)
		}
	}
	return noticed
}
