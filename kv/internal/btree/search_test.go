package btree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSearchAgainstSlice: a search in a page without a prefix, whose keys have long beginnings in
// common, ends where a search in a sorted slice does.
func TestSearchAgainstSlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var ix Index
	shared := []byte("commonly")
	for round := range 300 {
		key := func() []byte {
			k := append([]byte(nil), shared[:rng.IntN(len(shared)+1)]...)
			for range rng.IntN(14) {
				k = append(k, byte(rng.IntN(3)))
			}
			return k
		}
		var keys [][]byte
		for range 1 + rng.IntN(120) {
			keys = append(keys, key())
		}
		slices.SortFunc(keys, bytes.Compare)
		keys = slices.CompactFunc(keys, bytes.Equal)
		var pg, scratch Page
		initPage(&pg, 1, 0, 1, nil)
		for i, k := range keys {
			insertEntry(&pg, i, itemOf(k), Child{}, &scratch)
		}
		for range 200 {
			k := key()
			at, found, err := ix.Search(&pg, k)
			want, there := slices.BinarySearchFunc(keys, k, bytes.Compare)
			if at != want || found != there || err != nil {
				t.Fatalf("round %d: %q is at %d, %v, %v; want %d, %v", round, k, at, found, err, want, there)
			}
		}
	}
}

// TestFindTogether: several keys are found where each is found alone, and a spot holds until a key
// comes or goes, or the page that it names is copied.
func TestFindTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := newTreeModel(t)
	key := func() []byte {
		k := fmt.Appendf(nil, "user%0*d", 1+rng.IntN(5), rng.IntN(2000))
		if rng.IntN(20) == 0 {
			k = append(k, bytes.Repeat([]byte{'x'}, 1000)...)
		}
		return k
	}
	for range 1500 {
		m.put(key())
	}
	for n := range 300 {
		keys := make([][]byte, 1+rng.IntN(Together))
		for i := range keys {
			keys[i] = key()
		}
		slices.SortFunc(keys, bytes.Compare)
		var ways [Together]Path
		m.must(m.ix.FindTogether(keys, ways[:]))
		for i, k := range keys {
			var alone Path
			m.must(m.ix.Find(k, &alone))
			if ways[i] != alone {
				t.Fatalf("%.20q: %+v, alone %+v", k, ways[i], alone)
			}
		}
		next := ways[0]
		for i, k := range keys {
			m.must(m.ix.FindNext(k, &next))
			if next != ways[i] {
				t.Fatalf("%.20q: %+v behind the key before, alone %+v", k, next, ways[i])
			}
		}
		moved, s, k := m.ix.Moved(), ways[0].spot(), keys[0]
		m.next += 8
		old, ok, err := m.ix.UpdateAt(&s, m.next)
		m.must(err)
		if was, there := m.keys[string(k)]; ok != there || ok && old != was {
			t.Fatalf("%.20q: %v, %v; want %v, %v", k, old, ok, was, there)
		}
		if ok {
			m.keys[string(k)] = m.next
		}
		if m.ix.Moved() != moved {
			t.Fatal("a reference that changed counts as a key that moved")
		}
		m.put(fmt.Appendf(key(), "-%d", n))
		if m.ix.Moved() == moved {
			t.Fatal("a key came, and none counts as moved")
		}
	}
	var p Path
	k := key()
	for m.keys[string(k)] == 0 {
		k = key()
	}
	m.must(m.ix.Find(k, &p))
	m.ix.NextEpoch()
	s := p.spot()
	if _, ok, err := m.ix.UpdateAt(&s, 8); ok || err != nil {
		t.Errorf("a block of an older epoch changes in place: %v, %v", ok, err)
	}
	m.current()
}
